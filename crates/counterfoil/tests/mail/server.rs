//! A mail server that a test starts for itself: aiosmtpd, by the script beside this file.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use tempfile::TempDir;

/// It ends when this is dropped.
pub(crate) struct MailServer {
    process: Child,
    port: u16,
    directory: TempDir,
}

/// A certificate for `localhost`, and the authority that stands for it.
pub(crate) struct Certified {
    /// The authority, for those who are to trust it.
    pub(crate) ca_pem: String,
    directory: TempDir,
}

/// A mail that has arrived.
pub(crate) struct Arrived {
    /// What was said of it: `from`, `to`, `options`, `tls`, `login`, `peer`, `name`.
    pub(crate) envelope: Value,
    /// All of it.
    pub(crate) content: String,
}

impl Certified {
    /// Made anew, for that name.
    pub(crate) fn for_name(name: &str) -> Certified {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("an authority");
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        fs::write(directory.path().join("certificate.pem"), certificate.pem()).expect("written");
        fs::write(directory.path().join("key.pem"), key.serialize_pem()).expect("written");
        Certified { ca_pem: ca.pem(), directory }
    }

    /// The option of the server that makes it use this.
    pub(crate) fn option(&self) -> [String; 3] {
        let path = |name: &str| self.directory.path().join(name).to_str().expect("UTF-8").to_owned();
        ["--certificate".to_owned(), path("certificate.pem"), path("key.pem")]
    }
}

impl MailServer {
    /// Starts one with these options, see the script.
    pub(crate) fn start<S: AsRef<str>>(options: &[S]) -> MailServer {
        let directory = tempfile::tempdir().expect("a directory");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../counterfoil/tests/mail/smtp_server.py");
        let mut process = Command::new(python())
            .arg(script)
            .arg(directory.path())
            .args(options.iter().map(AsRef::as_ref))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a mail server");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("its stdout");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("a port");
        MailServer { process, port, directory }
    }

    /// Where it listens, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What has arrived so far, in order.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        let entries = fs::read_dir(self.directory.path()).expect("a directory");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|end| end == "eml"));
        paths.sort();
        let read = |path: &PathBuf| {
            let envelope = fs::read_to_string(path.with_extension("json")).expect("an envelope");
            let envelope = serde_json::from_str(&envelope).expect("JSON");
            Arrived { envelope, content: String::from_utf8(fs::read(path).expect("a mail")).expect("UTF-8") }
        };
        paths.iter().map(read).collect()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Python with aiosmtpd, as `cargo xtask smtp-server` installs it beside the programs that are built.
fn python() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let python =
        target.join("python/smtp-server").join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    assert!(python.is_file(), "{} is missing: run `cargo xtask smtp-server`", python.display());
    python
}
