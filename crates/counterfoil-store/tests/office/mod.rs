//! Where tickets are sold: a data directory, a clock that stands still, and the few things that every story does.
#![allow(clippy::allow_attributes, reason = "whether it is needed differs from story to story")]
#![allow(dead_code, reason = "each story uses some of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use counterfoil_core::client::Reissue;
use counterfoil_core::conformance::wait;
use counterfoil_core::entropy::PredictableEntropy;
use counterfoil_core::secret::{Candidates, DigestScheme};
use counterfoil_core::store::{Found, Issue, IssueOutcome, NewClient, RevokeOutcome, Warrant};
use counterfoil_core::token::{Kind, Metadata, Source, Standing, Token, TokenId, UserAgent};
use counterfoil_core::{
    Abilities, CheckKey, Client, ClientId, ClientName, Policy, Prefix, SecretToken, SubjectId, Timestamp, TokenFormat,
    TokenStore,
};
use counterfoil_store::{OpenOptions, SqliteStore};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);

pub(crate) struct Office {
    directory: tempfile::TempDir,
    pub(crate) entropy: PredictableEntropy,
    key: CheckKey,
}

impl Office {
    pub(crate) fn new() -> Office {
        Office::in_directory(tempfile::tempdir().expect("a directory"))
    }

    pub(crate) fn in_directory(directory: tempfile::TempDir) -> Office {
        let entropy = PredictableEntropy::from_seed(7);
        let key = CheckKey::generate(&entropy).expect("entropy");
        Office { directory, entropy, key }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The server over this directory.
    pub(crate) fn serve(&self) -> SqliteStore {
        self.open(&OpenOptions::serve())
    }

    pub(crate) fn open(&self, options: &OpenOptions) -> SqliteStore {
        let store = SqliteStore::open(self.path(), options).expect("a store");
        self.begin(&store);
        store
    }

    /// What every process does first.
    pub(crate) fn begin(&self, store: &SqliteStore) {
        let default = NewClient {
            id: ClientId::generate(NOW, &self.entropy).expect("entropy"),
            name: ClientName::default_client(),
            policy: Policy::default(),
            allow_login: true,
            metadata: Metadata::default(),
            created_at: NOW,
        };
        wait(TokenStore::open(store, &self.key, &default));
    }

    /// The directory as a killed process or a power cut leaves it: everything written, nothing closed.
    pub(crate) fn as_after_a_kill(&self, store: SqliteStore) -> Office {
        let left = Office::new();
        for name in ["counterfoil.db", "counterfoil.db-wal", "counterfoil.witness", "counterfoil.reserve"] {
            fs::copy(self.file(name), left.file(name)).expect("a copy");
        }
        drop(store);
        left
    }

    pub(crate) fn order(&self, client: &Client, subject: &SubjectId, secret: &SecretToken) -> Issue {
        Issue {
            id: TokenId::generate(NOW, &self.entropy).expect("entropy"),
            kind: Kind::Login,
            subject: subject.clone(),
            client: client.id,
            client_version: client.version,
            warrant: Warrant::Operator,
            name: None,
            abilities: Abilities::everything(),
            metadata: Metadata::default(),
            expires_at: Some(NOW.plus_millis(1_000_000)),
            digest: secret.digest(),
            scheme: DigestScheme::Native,
            sealed: None,
            source: Source { ip: "203.0.113.7".parse().ok(), user_agent: UserAgent::cut(b"story/1.0") },
            cap: None,
            reissue: Reissue::New,
        }
    }

    pub(crate) fn mint(&self) -> SecretToken {
        let format = TokenFormat::new(self.key.clone(), Vec::new(), &[]);
        format.mint(&Prefix::default(), &self.entropy).expect("entropy")
    }

    /// A token for `subject` on the default client.
    pub(crate) fn issue(&self, store: &SqliteStore, subject: &str) -> (Token, SecretToken) {
        let subject: SubjectId = subject.parse().expect("a subject");
        wait(store.open_subject(&subject, NOW));
        let secret = self.mint();
        let order = self.order(&default_client(store), &subject, &secret);
        let outcome = wait(store.issue(&order, NOW));
        let IssueOutcome::Issued { token, .. } = outcome else { panic!("{outcome:?}") };
        (*token, secret)
    }
}

/// For tests that open a directory again while others start processes: until a process that is being started has become
/// the other program, it holds all locks that this one holds, and so longer than this one does.
pub(crate) fn in_turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The test of this name in this program, in a process of its own with `directory` as its own, and under strace where it
/// is to fail or to be watched. It is one that is ignored unless it is asked for.
pub(crate) fn child(test: &str, directory: &Path, strace: &[&str]) -> Command {
    let program = std::env::current_exe().expect("the program that runs");
    let mut command = match strace {
        [] => Command::new(program),
        options => {
            let mut strace = Command::new("strace");
            assert!(
                strace.arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()),
                "this test needs strace; on Debian, as root: apt-get install strace"
            );
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq"]).args(options).arg(program);
            strace
        }
    };
    command.args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A copy of every file in `from`, in a directory of its own.
pub(crate) fn copy_of(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("a copy");
        }
    }
    copy
}

pub(crate) fn default_client(store: &SqliteStore) -> Arc<Client> {
    wait(store.client(&ClientName::default_client())).expect("there from the start")
}

pub(crate) fn find(store: &SqliteStore, secret: &SecretToken) -> Option<Found> {
    wait(store.find(&Candidates::Native(secret.digest())))
}

pub(crate) fn standing(store: &SqliteStore, secret: &SecretToken) -> Option<Standing> {
    find(store, secret).map(|found| found.standing(NOW))
}

pub(crate) fn revoke(store: &SqliteStore, id: TokenId) {
    let outcome = wait(store.revoke(id, None, None, NOW));
    assert!(matches!(outcome, RevokeOutcome::Revoked(_)), "{outcome:?}");
}

/// A file system of its own, so small that it is soon full. Needs the right to mount.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(path: &Path, size: &str) -> Option<SmallDisk> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(path)
            .output()
            .is_ok_and(|output| output.status.success());
        mounted.then(|| SmallDisk(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}
