//! Whether the server is set up so that tokens are safe there: [`Finding`]s, in words.

use std::collections::HashMap;
use std::fmt;

use redis::aio::MultiplexedConnection;

use super::fault::Fault;

/// How bad a [`Finding`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// To be known.
    Note,
    /// Something that was acknowledged may be lost by a crash or a failover.
    Warning,
    /// Tokens are lost, or ended ones come back, without any crash.
    Grave,
}

impl Severity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Grave => "grave",
        }
    }
}

/// Something about the server that endangers tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. {}", self.severity.as_str(), self.what, self.remedy)
    }
}

/// The oldest version that knows what scripts here ask for: their flags.
const OLDEST: (u32, u32) = (7, 0);

pub(super) async fn examine(connection: &mut MultiplexedConnection, wait: u32) -> Result<Vec<Finding>, Fault> {
    let about: String = redis::cmd("INFO").query_async(connection).await?;
    let asked = ["maxmemory-policy", "maxmemory", "appendonly", "appendfsync", "save", "min-replicas-to-write"];
    let mut config = redis::cmd("CONFIG");
    config.arg("GET");
    asked.iter().for_each(|name| {
        config.arg(name);
    });
    // Where somebody else runs the server, its settings are often not for us to read.
    let settings: Option<HashMap<String, String>> = config.query_async(connection).await.ok();
    Ok(judge(&about, settings.as_ref(), wait))
}

/// What matters to limits: `alone` on a server that is asked for itself.
pub(super) async fn examine_limits(connection: &mut MultiplexedConnection, alone: bool) -> Result<Vec<Finding>, Fault> {
    let about: String = redis::cmd("INFO").query_async(connection).await?;
    Ok(judge_limits(&about, alone))
}

fn judge_limits(about: &str, alone: bool) -> Vec<Finding> {
    let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("");
    let mut findings = Vec::new();
    let mut found = |severity, what: String, remedy| findings.push(Finding { severity, what, remedy });
    let version = field("redis_version");
    if is_too_old(version) {
        found(
            Severity::Grave,
            format!("the server is version {version}"),
            "Redis 7.0 or Valkey 7.2 is the oldest that works",
        );
    }
    if alone && field("role") != "master" {
        found(Severity::Grave, "that server is a replica".to_owned(), "name the primary, or its Sentinels");
    }
    if alone && field("cluster_enabled") == "1" {
        found(
            Severity::Grave,
            "that server is one of a Cluster".to_owned(),
            "begin the URL with redis+cluster:// and name some of its nodes",
        );
    }
    let policy = field("maxmemory_policy");
    if policy.starts_with("allkeys") || policy.ends_with("random") {
        found(
            Severity::Warning,
            format!(
                "maxmemory-policy is {policy}: where memory is short, counts that matter are thrown away and begin anew"
            ),
            "set maxmemory-policy volatile-ttl, or noeviction: each node then counts for itself while memory is full",
        );
    }
    let evicted = field("evicted_keys");
    if !matches!(evicted, "0" | "") {
        found(
            Severity::Note,
            format!("the server has evicted {evicted} keys since it started"),
            "limits that were among them began anew; give the server more memory",
        );
    }
    findings
}

/// Older than what scripts here ask for: their flags.
fn is_too_old(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < OLDEST
}

fn judge(about: &str, settings: Option<&HashMap<String, String>>, wait: u32) -> Vec<Finding> {
    let field = |name: &str| about.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("");
    let mut findings = Vec::new();
    let mut found = |severity, what: String, remedy| findings.push(Finding { severity, what, remedy });

    let version = field("redis_version");
    if is_too_old(version) {
        found(
            Severity::Grave,
            format!("the server is version {version}"),
            "Redis 7.0 or Valkey 7.2 is the oldest that works",
        );
    }
    if field("role") != "master" {
        found(Severity::Grave, "that server is a replica".to_owned(), "name the primary, or its Sentinels");
    }
    let policy = match settings.and_then(|settings| settings.get("maxmemory-policy")) {
        Some(policy) => policy.as_str(),
        None => field("maxmemory_policy"),
    };
    if policy != "noeviction" {
        found(
            Severity::Grave,
            format!("maxmemory-policy is {policy}: the server throws away tokens where memory is short"),
            "set maxmemory-policy noeviction; what is thrown away is refused, and some of what ends tokens cannot be done",
        );
    }
    let evicted = field("evicted_keys");
    if !matches!(evicted, "0" | "") {
        found(
            Severity::Warning,
            format!("the server has evicted {evicted} keys since it started"),
            "see maxmemory and maxmemory-policy, and that nothing else is kept on this server",
        );
    }
    match settings {
        None => found(
            Severity::Note,
            "the server does not tell its settings (CONFIG GET is refused)".to_owned(),
            "see for yourself: maxmemory-policy noeviction, appendonly yes, appendfsync always, min-replicas-to-write 1",
        ),
        Some(settings) => {
            let setting = |name: &str| settings.get(name).map_or("", String::as_str);
            let snapshots = !setting("save").is_empty();
            if setting("appendonly") != "yes" {
                let (severity, what) = if snapshots {
                    (Severity::Warning, "appendonly is off: a restart brings back the last snapshot, minutes old")
                } else {
                    (Severity::Grave, "nothing is written to disk: a restart loses every token")
                };
                found(severity, what.to_owned(), "set appendonly yes and appendfsync always");
            } else if setting("appendfsync") != "always" {
                found(
                    Severity::Warning,
                    format!("appendfsync is {}: a power cut takes the last second back", setting("appendfsync")),
                    "set appendfsync always, where a revocation that was acknowledged must survive a power cut",
                );
            }
            let needed: u32 = setting("min-replicas-to-write").parse().unwrap_or(0);
            let replicas: u32 = field("connected_slaves").parse().unwrap_or(0);
            if replicas > 0 && needed == 0 {
                found(
                    Severity::Warning,
                    format!(
                        "there are {replicas} replicas, and min-replicas-to-write is 0: a primary that is cut off goes on"
                    ),
                    "set min-replicas-to-write 1 and min-replicas-max-lag 10, with two replicas, so that one may be away",
                );
            }
            if replicas > 0 && wait == 0 {
                found(
                    Severity::Note,
                    "writes are acknowledged before a replica has them: a failover may take the newest back".to_owned(),
                    "put ?wait_replicas=1 behind the URL",
                );
            }
        }
    }
    if field("aof_last_write_status") == "err" || field("rdb_last_bgsave_status") == "err" {
        found(Severity::Warning, "the server could not write to its disk".to_owned(), "see its log: is the disk full?");
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABOUT: &str = "redis_version:7.2.4\r\nrole:master\r\nmaxmemory_policy:noeviction\r\nevicted_keys:0\r\n\
                         connected_slaves:2\r\naof_last_write_status:ok\r\nrdb_last_bgsave_status:ok\r\n";

    fn settings(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let good = [
            ("maxmemory-policy", "noeviction"),
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("save", ""),
            ("min-replicas-to-write", "1"),
        ];
        good.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn said(about: &str, pairs: &[(&str, &str)], wait: u32) -> Vec<String> {
        judge(about, Some(&settings(pairs)), wait).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_server_that_is_set_up_well_gives_no_finding_and_each_fault_one() {
        assert_eq!(said(ABOUT, &[], 1), [""; 0]);
        for (pairs, word, severity) in [
            (&[("maxmemory-policy", "allkeys-lru")][..], "throws away", "grave"),
            (&[("appendonly", "no")][..], "loses every token", "grave"),
            (&[("appendonly", "no"), ("save", "3600 1")][..], "minutes old", "warning"),
            (&[("appendfsync", "everysec")][..], "last second", "warning"),
            (&[("min-replicas-to-write", "0")][..], "cut off", "warning"),
        ] {
            let said = said(ABOUT, pairs, 1);
            assert!(said.len() == 1 && said[0].contains(word) && said[0].starts_with(severity), "{said:?}");
        }
        assert!(said(ABOUT, &[], 0)[0].contains("wait_replicas"));
        for (was, is, word) in [
            ("7.2.4", "6.2.1", "version 6.2.1"),
            ("role:master", "role:slave", "a replica"),
            ("evicted_keys:0", "evicted_keys:9", "evicted 9"),
            ("bgsave_status:ok", "bgsave_status:err", "its disk"),
        ] {
            let said = said(&ABOUT.replace(was, is), &[], 1);
            assert!(said.len() == 1 && said[0].contains(word), "{said:?}");
        }
        let silent = judge(&ABOUT.replace("noeviction", "volatile-ttl"), None, 1);
        assert_eq!(
            silent.iter().map(|finding| finding.severity).collect::<Vec<_>>(),
            [Severity::Grave, Severity::Note]
        );
    }

    #[test]
    fn limits_ask_for_less_than_tokens_do() {
        let about = "redis_version:7.2.4\r\nrole:master\r\nmaxmemory_policy:volatile-ttl\r\nevicted_keys:0\r\ncluster_enabled:0\r\n";
        let said = |was: &str, is: &str, alone| {
            judge_limits(&about.replace(was, is), alone).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(said("\r", "\r", true), [""; 0]);
        for (was, is, word) in [
            ("7.2.4", "6.2.1", "version 6.2.1"),
            ("role:master", "role:slave", "a replica"),
            ("cluster_enabled:0", "cluster_enabled:1", "redis+cluster"),
            ("volatile-ttl", "allkeys-lru", "thrown away"),
            ("evicted_keys:0", "evicted_keys:9", "evicted 9"),
        ] {
            let said = said(was, is, true);
            assert!(said.len() == 1 && said[0].contains(word), "{said:?}");
        }
        assert_eq!(said("cluster_enabled:0", "cluster_enabled:1", false), [""; 0]);
    }
}
