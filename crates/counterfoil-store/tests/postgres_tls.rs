//! To whom the store talks, and that nobody in between can make it talk in the clear.
#![cfg(feature = "postgres")]

use std::path::PathBuf;

use counterfoil_core::TokenStore as _;
use counterfoil_lab::postgres::{Options, Server};
use counterfoil_store::{ConnectError, ConnectOptions, PostgresStore};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A host that is not "this machine" to the store, and is it all the same.
const ELSEWHERE: &str = "127.0.0.2";

/// Who vouches for servers, and a file with the certificate to know them by.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("an authority");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).expect("written");
        Authority { issuer: Issuer::new(params, key), directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A server that is vouched for under these names, and may be called by others.
    fn server(&self, names: &[&str]) -> Server {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).expect("parameters").signed_by(&key, &self.issuer);
        let certificate = certificate.expect("a certificate");
        Options::new().listen(ELSEWHERE).tls(&certificate.pem(), &key.serialize_pem()).start()
    }
}

/// Connects, and tells whether what is said can be read in between; else why it does not talk.
fn talks_in_the_clear(server: &Server, host: &str, query: &str) -> Result<bool, ConnectError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let url = format!("postgres://lab:hunter2@{host}:{}/postgres?{query}", server.port());
    let store = runtime.block_on(PostgresStore::connect(&url, &ConnectOptions::default()));
    store.map(|store| {
        // Connecting lets its connection go; a question is asked over one that stays.
        runtime.block_on(store.imported()).expect("an answer");
        let encrypted = "SELECT bool_and(ssl), bool_or(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                         WHERE application_name = 'counterfoil'";
        let encrypted = server.sql("postgres", encrypted);
        runtime.block_on(store.close());
        assert!(matches!(encrypted.as_str(), "t|t" | "f|f"), "all connections alike: {encrypted}");
        encrypted == "f|f"
    })
}

#[track_caller]
fn is_refused(talked: Result<bool, ConnectError>, why: &str) {
    let refused = talked.expect_err(why);
    let said = format!("{refused} {refused:?}");
    assert!(matches!(refused, ConnectError::Unreachable(_)) && said.contains(why), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_server_is_believed_only_with_a_certificate_for_its_name_from_who_is_trusted() {
    let (ours, other) = (Authority::new(), Authority::new());
    let ca = |authority: &Authority| format!("sslrootcert={}", authority.file().display());
    let server = ours.server(&["localhost", ELSEWHERE]);
    for mode in ["verify-full", "verify-ca", "require", "prefer"] {
        let query = format!("sslmode={mode}&{}", ca(&ours));
        let talked = talks_in_the_clear(&server, "localhost", &query).unwrap_or_else(|error| panic!("{mode}: {error}"));
        assert!(!talked, "{mode}");
    }
    assert!(
        !talks_in_the_clear(&server, ELSEWHERE, &ca(&ours)).expect("without a word a server elsewhere is asked too")
    );

    for mode in ["verify-full", "verify-ca", "require", "prefer"] {
        let query = format!("sslmode={mode}&{}", ca(&other));
        is_refused(talks_in_the_clear(&server, "localhost", &query), "invalid peer certificate");
    }
    // Nobody's authority is among those that the system trusts.
    is_refused(talks_in_the_clear(&server, ELSEWHERE, ""), "UnknownIssuer");
    drop(server);

    let server = ours.server(&["db.internal"]);
    for mode in ["verify-full", "verify-ca", "require"] {
        let query = format!("sslmode={mode}&{}", ca(&ours));
        is_refused(talks_in_the_clear(&server, "localhost", &query), "not valid for name");
    }
    is_refused(talks_in_the_clear(&server, ELSEWHERE, &ca(&ours)), "not valid for name");
}

#[test]
fn nobody_in_between_can_have_the_store_talk_in_the_clear() {
    let ours = Authority::new();
    let ca = format!("sslrootcert={}", ours.file().display());
    // What somebody in between says who wants to listen: there is no TLS here.
    let server = Options::new().listen(ELSEWHERE).start();
    for mode in ["verify-full", "verify-ca", "require"] {
        is_refused(talks_in_the_clear(&server, "localhost", &format!("sslmode={mode}&{ca}")), "TLS");
    }
    is_refused(talks_in_the_clear(&server, ELSEWHERE, &ca), "TLS");
    // Whoever says so takes what there is, and so does who names this machine.
    assert!(talks_in_the_clear(&server, ELSEWHERE, "sslmode=disable").expect("in the clear"));
    assert!(talks_in_the_clear(&server, "localhost", &format!("sslmode=prefer&{ca}")).expect("in the clear"));
    assert!(talks_in_the_clear(&server, "127.0.0.1", "").expect("in the clear"));
    drop(server);

    // And a server that could is not asked.
    let server = ours.server(&["localhost"]);
    assert!(talks_in_the_clear(&server, "localhost", "sslmode=disable").expect("in the clear"));
}
