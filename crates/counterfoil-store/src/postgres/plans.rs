//! How the server goes about the statements that requests wait for, held to indexes.

use counterfoil_core::store::TokenFilter;
use counterfoil_core::token::Kind;
use counterfoil_core::{SubjectId, Timestamp};
use counterfoil_lab::postgres;

use super::matching::listing;
use super::session::PLANNING;
use super::tokens::{RECORD, finding, finding_imported, finding_retired};
use super::{ConnectOptions, PostgresStore, changes};

/// Many subjects with a few tokens each, on one client, half of them dead.
const CROWD: &str = "
    INSERT INTO subjects (name) SELECT 'subject-' || n FROM generate_series(1, 5000) AS n;
    INSERT INTO clients (id, name, policy, allow_login, metadata, created_at)
        VALUES (gen_random_uuid(), 'default', '{}', true, '{}', 0);
    INSERT INTO tokens (id, kind, subject, client, digest, scheme, abilities, issued_at, expires_at, revoked_at,
                        subject_epoch, client_epoch, deployment_epoch, metadata)
        SELECT gen_random_uuid(), CASE n % 3 WHEN 0 THEN 'key' ELSE 'login' END, 1 + n % 5000,
               (SELECT key FROM clients), sha256(CAST(CAST(n AS text) AS bytea)), 'native', '*', 0, 1000 + n,
               CASE n % 2 WHEN 0 THEN 1 END, 0, 0, 0, '{}'
        FROM generate_series(1, 40000) AS n;
    INSERT INTO retired (digest, scheme, token, grace_until, taken_back, retired_at)
        SELECT sha256(CAST('r' || number AS bytea)), 'native', number, 0, false, number FROM tokens WHERE number % 10 = 0;
    INSERT INTO log (n, tag, at, kind) SELECT n, n, 0, 'everything' FROM generate_series(1, 10000) AS n;";

/// The plan as the server would use it for any parameters.
fn plan(database: &postgres::Database, sql: &str, types: &str, nulls: usize) -> String {
    let parameters = vec!["NULL"; nulls].join(", ");
    let planning: String = PLANNING.iter().map(|setting| format!("SET {setting}; ")).collect();
    database.sql(&format!(
        "{planning} SET plan_cache_mode = force_generic_plan; PREPARE asked ({types}) AS {sql};
         EXPLAIN (COSTS OFF) EXECUTE asked ({parameters});"
    ))
}

#[test]
fn what_requests_wait_for_is_found_in_indexes_before_and_after_statistics_are_gathered() {
    let database = postgres::database();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime
        .block_on(async { PostgresStore::connect(database.url(), &ConnectOptions::default()).await })
        .expect("a store");
    let ada: SubjectId = "ada".parse().expect("a subject");
    let of_ada = TokenFilter { kind: Some(Kind::Login), ..TokenFilter::of(ada) };
    let list = "bigint, text, text, text, bigint, bigint, text, bigint, bigint";
    let asked = [
        (finding(), "bytea, text", 2),
        (finding_retired(), "bytea, text", 2),
        (finding_imported(), "bytea[], text[]", 2),
        (format!("{RECORD} AND t.id = $1"), "uuid", 1),
        (changes::reading(), "bigint, bigint", 2),
        (listing(&of_ada, Some(Timestamp::MIN), RECORD), list, 9),
    ];
    for told in ["an empty database", "a full one", "a full one with statistics"] {
        for (sql, types, parameters) in &asked {
            let plan = plan(&database, sql, types, *parameters);
            // The only tables that may be read whole are those that hold a handful of rows.
            let whole = plan.lines().filter(|line| line.contains("Seq Scan on"));
            let large: Vec<&str> =
                whole.filter(|line| !line.contains("clients") && !line.contains("deployment")).collect();
            assert!(large.is_empty(), "{told}: {sql}\n{plan}");
        }
        match told {
            "an empty database" => drop(database.sql(CROWD)),
            "a full one" => drop(database.sql("VACUUM ANALYZE")),
            _ => {}
        }
    }
}
