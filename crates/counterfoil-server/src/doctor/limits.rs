//! Where all nodes count together.

use std::error::Error;

use counterfoil::redis::{RedisLimits, Severity};

use super::Report;
use crate::config::Config;

/// Nothing here keeps a server from serving: without it each node counts for itself.
pub(super) async fn look(config: &Config, report: &mut Report) {
    let Some(address) = &config.limits else { return };
    match RedisLimits::examine(address).await {
        Ok(findings) => {
            if findings.iter().all(|finding| finding.severity == Severity::Note) {
                report.ok(
                    "limits",
                    "nodes count together in Redis: it is reached, is a primary, and keeps what is counted",
                );
            }
            for finding in findings {
                match finding.severity {
                    Severity::Note => report.ok("limits", format!("{}: {}", finding.what, finding.remedy)),
                    Severity::Warning | Severity::Grave => report.warning("limits", finding.what, finding.remedy),
                }
            }
        }
        Err(error) => {
            let why = error.source().map_or_else(String::new, ToString::to_string);
            report.warning(
                "limits",
                format!("Redis is not reached: {why}"),
                "until it is, each node counts for itself; see limits.redis_url",
            );
        }
    }
}
