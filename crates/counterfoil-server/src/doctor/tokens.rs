//! Tokens that are kept in Redis: what is promised of them there, and whether it is set up for that.

use std::sync::Arc;

use counterfoil::OsEntropy;
use counterfoil::redis::{RedisStore, Severity};

use super::Report;
use crate::config::Config;
use crate::failure::causes;

/// Looks at the server that keeps tokens, if one does; returns whether they can be asked for.
pub(super) async fn look(config: &Config, report: &mut Report) -> bool {
    let Some(address) = &config.tokens else { return true };
    let findings = match RedisStore::examine_at(address.clone(), Arc::new(OsEntropy)).await {
        Ok(findings) => findings,
        Err(error) => {
            report.fault(
                "tokens",
                format!("the Redis at {address} does not answer: {}", causes(&error)),
                "until it does, every token is answered with 503; see store.tokens_url",
            );
            return false;
        }
    };
    report.ok(
        "tokens",
        format!("kept in Redis at {address}: what is ended there stays so until a failover, or a restart that loses writes (docs/redis.md)"),
    );
    for finding in findings {
        match finding.severity {
            Severity::Note => report.ok("tokens", format!("{}: {}", finding.what, finding.remedy)),
            Severity::Warning => report.warning("tokens", finding.what, finding.remedy),
            Severity::Grave => report.fault("tokens", finding.what, finding.remedy),
        }
    }
    true
}
