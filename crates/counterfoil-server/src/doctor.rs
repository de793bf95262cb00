//! `counterfoil doctor`: whether all is well, and what to do where it is not.
//!
//! Looks and changes nothing. A fault keeps the server from serving, or serving what it should not; a warning is what an
//! operator may have meant, or has time for.

mod deployment;
mod files;
mod limits;
mod postgres;
mod server;
mod settings;
mod tokens;

use std::fmt::{self, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::config::Config;
use crate::failure::{Failure, printable};
use crate::output::{self, Output};
use crate::setting::Chosen;
use crate::store_place::StorePlace;

/// How something that was looked at is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Ok,
    Warning,
    Fault,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Fault => "fault",
        }
    }
}

/// What was looked at, how it is, and what to do about it.
#[derive(Debug)]
struct Finding {
    verdict: Verdict,
    check: &'static str,
    what: String,
    advice: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Default)]
struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, check: &'static str, what: impl fmt::Display) {
        self.0.push(Finding { verdict: Verdict::Ok, check, what: what.to_string(), advice: None });
    }

    fn warning(&mut self, check: &'static str, what: impl fmt::Display, advice: impl fmt::Display) {
        let (what, advice) = (what.to_string(), Some(advice.to_string()));
        self.0.push(Finding { verdict: Verdict::Warning, check, what, advice });
    }

    fn fault(&mut self, check: &'static str, what: impl fmt::Display, advice: impl fmt::Display) {
        let (what, advice) = (what.to_string(), Some(advice.to_string()));
        self.0.push(Finding { verdict: Verdict::Fault, check, what, advice });
    }

    /// Accounts that nobody can log in to, whatever the store.
    fn locked_out(&mut self, accounts: u64) {
        if accounts > 0 {
            self.warning(
                "accounts",
                format!("{accounts} locked after 100 failed logins in a row"),
                "`counterfoil audit list --event login_failed` shows whose; `counterfoil user unlock NAME`",
            );
        }
    }

    /// A fault that a command would have been refused with.
    fn failed(&mut self, check: &'static str, failure: &Failure) {
        let (what, advice) = failure.parts();
        self.0.push(Finding {
            verdict: Verdict::Fault,
            check,
            what: what.to_owned(),
            advice: advice.map(str::to_owned),
        });
    }

    fn worst(&self) -> Verdict {
        self.0.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
    }

    fn to_json(&self) -> Value {
        let finding = |Finding { verdict, check, what, advice }: &Finding| json!({ "check": check, "verdict": verdict.as_str(), "what": what, "advice": advice });
        json!({
            "verdict": self.worst().as_str(),
            "findings": self.0.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

/// A line for each finding.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { verdict, check, what, advice } in &self.0 {
            let mut line = format!("{:7}  {check:14}  {what}", verdict.as_str());
            if let Some(advice) = advice {
                write!(line, "  ({advice})")?;
            }
            writeln!(f, "{}", printable(&line))?;
        }
        Ok(())
    }
}

/// Looks at everything that `chosen` names. 0 where there is no fault, 1 where there is one.
pub(crate) async fn run(chosen: Result<Chosen, Failure>, output: Output) -> Result<ExitCode, Failure> {
    let mut report = Report::default();
    match chosen.and_then(|chosen| Config::judge(&chosen)) {
        Ok(config) => {
            settings::look(&config, &mut report);
            limits::look(&config, &mut report).await;
            let reached = tokens::look(&config, &mut report).await;
            match &config.store {
                StorePlace::DataDir => {
                    if files::look(&config, &mut report) {
                        let served = deployment::look(&config, reached, &mut report).await;
                        server::look(&config, served, &mut report).await;
                    }
                }
                StorePlace::Postgres(place) => {
                    if postgres::look(&config, place, &mut report).await {
                        if reached {
                            deployment::look_inside(&config, &mut report).await;
                        }
                        server::look_for_a_node(&config, &mut report).await;
                    }
                }
            }
        }
        // Where everything is kept is one of them, so there is no more to look at.
        Err(failure) => report.failed("settings", &failure),
    }
    match output {
        Output::Human => output::write(&report.to_string())?,
        Output::Json => output::line(&report.to_json().to_string())?,
    }
    Ok(match report.worst() {
        Verdict::Ok | Verdict::Warning => ExitCode::SUCCESS,
        Verdict::Fault => ExitCode::from(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_verdict_and_every_finding_is_one_line() {
        let mut report = Report::default();
        assert_eq!(report.worst(), Verdict::Ok);
        report.ok("a", "fine");
        report.warning("b", "so\nso", "see to it");
        assert_eq!(report.worst(), Verdict::Warning);
        report.fault("c", "bad", "mend it");
        report.ok("d", "fine");
        assert_eq!(report.worst(), Verdict::Fault);
        let text = report.to_string();
        assert_eq!(text.lines().nth(1), Some("warning  b               so\\nso  (see to it)"));
        assert_eq!(text.lines().count(), 4);
    }
}
