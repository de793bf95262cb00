//! A PostgreSQL: what it promises, and whether that is enough for tokens.

use std::time::Duration;

use counterfoil::postgres::{Inspection, Standby, inspect};
use counterfoil::{BootTime, Clock, SystemClock};

use super::Report;
use crate::config::Config;
use crate::failure::Failure;
use crate::output::size;
use crate::store_place::PostgresPlace;

/// A miss costs a question and its answer: beyond this it is no longer a matter of a local network.
const NEAR: Duration = Duration::from_millis(5);
/// Nodes go by the date of the store, so nothing hangs on it; but people read logs of both.
const CLOCKS_APART: Duration = Duration::from_secs(2);
/// Dead rows are kept for as long as a transaction is open that began before they died.
const LONG: Duration = Duration::from_secs(600);

/// Looks at the server and the database behind `place`; returns whether there is a deployment to look into.
pub(super) async fn look(config: &Config, place: &PostgresPlace, report: &mut Report) -> bool {
    let since_boot = || SystemClock.now().boot.map_or(Duration::ZERO, |BootTime(nanos)| Duration::from_nanos(nanos));
    let inspection = match inspect(place.url(), &place.options(), since_boot).await {
        Ok(inspection) => inspection,
        Err(error) => {
            report.failed("postgresql", &Failure::from(error));
            return false;
        }
    };
    server(&inspection, place, report);
    durability(&inspection, report);
    standbys(&inspection, report);
    clocks(&inspection, report);
    role(&inspection, report);
    schema(&inspection, report);
    report.locked_out(inspection.locked_out);
    files(config, report);
    inspection.missing.is_empty()
}

fn server(inspection: &Inspection, place: &PostgresPlace, report: &mut Report) {
    let Inspection { version, round_trip, max_connections, node_connections, .. } = inspection;
    let what = format!("{} at {}, {} µs there and back", version, place.shown(), round_trip.as_micros());
    if *round_trip <= NEAR {
        report.ok("postgresql", what);
    } else {
        report.warning(
            "postgresql",
            what,
            "put the nodes near the database: each token not seen before costs that much",
        );
    }
    if !inspection.encrypted {
        report.warning(
            "postgresql",
            "the connection is not encrypted",
            "leave sslmode out of the URL, unless nobody else is on that network",
        );
    }
    // Superusers have some kept for them.
    if node_connections * 3 > *max_connections {
        report.warning(
            "postgresql",
            format!("it takes {max_connections} connections, and each node may open {node_connections}"),
            "raise max_connections, or lower pool_size in the URL",
        );
    }
    if let Some(open) = inspection.oldest_transaction.filter(|open| *open >= LONG) {
        report.warning(
            "postgresql",
            format!("a transaction has been open for {} minutes", open.as_secs() / 60),
            "nothing waits for it, but the space of dead rows is not used again; pg_stat_activity shows whose it is",
        );
    }
}

fn durability(inspection: &Inspection, report: &mut Report) {
    if !inspection.fsync || !inspection.full_page_writes {
        report.fault(
            "durability",
            "fsync or full_page_writes is off: a power cut may undo acknowledged revocations, or ruin the database",
            "set both to on",
        );
    }
    match inspection.synchronous_commit.as_str() {
        "off" => report.fault(
            "durability",
            "synchronous_commit is off: a crash undoes revocations that were acknowledged",
            "ALTER SYSTEM SET synchronous_commit = on",
        ),
        level => report.ok("durability", format!("synchronous_commit is {level}")),
    }
}

fn standbys(inspection: &Inspection, report: &mut Report) {
    let Inspection { standbys, synchronous_standby_names, synchronous_commit, .. } = inspection;
    let is_waited_for = |standby: &&Standby| matches!(standby.sync_state.as_deref(), Some("sync" | "quorum"));
    let waited_for = standbys.iter().filter(is_waited_for).count();
    let is_hidden = standbys.iter().any(|standby| standby.sync_state.is_none());
    let names = || standbys.iter().map(|standby| standby.name.as_str()).collect::<Vec<_>>().join(", ");
    match (standbys.len(), waited_for) {
        (0, _) if synchronous_standby_names.is_empty() => {
            report.ok("standbys", "none; what is lost with this server's disk is lost");
        }
        (0, _) => report.fault(
            "standbys",
            format!("commits wait for {synchronous_standby_names}, and no standby is connected: every write hangs"),
            "bring a standby back, or take it out of synchronous_standby_names",
        ),
        // Whether it does is shown to a role that may read all statistics, which a node's own need not.
        (_, 0) if is_hidden && !synchronous_standby_names.is_empty() && synchronous_commit != "local" => report.ok(
            "standbys",
            format!("{} connected; commits wait for {synchronous_standby_names}, as far as this role may see", names()),
        ),
        (_, 0) => report.warning(
            "standbys",
            format!("{} follow, and no commit waits for any of them: a failover may revive revoked tokens", names()),
            "name one in synchronous_standby_names; docs/postgres.md",
        ),
        (_, _) if synchronous_commit == "local" => report.warning(
            "standbys",
            "synchronous_commit is local, so no commit waits for a standby: a failover may revive revoked tokens",
            "ALTER SYSTEM SET synchronous_commit = on",
        ),
        (_, _) => {
            report.ok("standbys", format!("{}; {waited_for} of them have a commit before it is acknowledged", names()));
        }
    }
}

fn clocks(inspection: &Inspection, report: &mut Report) {
    let here = SystemClock.now().wall;
    let apart = here.millis_since(inspection.clock).max(inspection.clock.millis_since(here));
    let what = format!("it is {} by the database's clock, by which tokens expire", inspection.clock);
    if u128::from(apart) <= CLOCKS_APART.as_millis() {
        report.ok("clock", what);
    } else {
        report.warning(
            "clock",
            format!("{what}, and {here} by this machine's"),
            "let both go by the same time servers; nothing but logs goes by this machine's",
        );
    }
}

fn role(inspection: &Inspection, report: &mut Report) {
    let role = &inspection.role;
    if role.superuser {
        report.warning(
            "role",
            format!("{} is a superuser: whoever breaks into a node owns the database server", role.name),
            "make a role that may do less: deploy/postgres/roles.sql",
        );
    } else if role.owner {
        report.ok(
            "role",
            format!("{} owns the tables; one that may only use them is safer: docs/postgres.md", role.name),
        );
    } else {
        report.ok("role", format!("{} uses the tables and does not own them", role.name));
    }
}

fn schema(inspection: &Inspection, report: &mut Report) {
    match (inspection.missing.as_slice(), inspection.log) {
        ([], Some((head, kept))) => report.ok(
            "schema",
            format!(
                "up to date, {}; {head} changes so far, {kept} of them kept",
                size(u64::try_from(inspection.database_bytes).unwrap_or(0))
            ),
        ),
        (missing, _) => report.fault(
            "schema",
            format!("{} migrations are missing", missing.len()),
            "`counterfoil migrate --dry-run` shows them, `counterfoil migrate` applies them",
        ),
    }
}

/// Of the files of the embedded store there are none; the key ring is one all the same.
fn files(config: &Config, report: &mut Report) {
    if config.key_ring_file.is_some() {
        report.ok("key ring", "one is named; every node must have the same");
    }
}
