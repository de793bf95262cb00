//! One random history told to two stores, of which one may be the reference in memory: both give the same answers.
#![allow(clippy::allow_attributes, reason = "whether it is needed differs from story to story")]
#![allow(dead_code, reason = "each story compares with the reference or with another store")]

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use counterfoil_core::account::Role;
use counterfoil_core::actor::Actor;
use counterfoil_core::audit::Entry;
use counterfoil_core::client::{AtCap, Cap, Reissue};
use counterfoil_core::conformance::wait;
use counterfoil_core::entropy::{Entropy, PredictableEntropy};
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::seal::Sealed;
use counterfoil_core::secret::{Candidates, DigestScheme, TokenDigest};
use counterfoil_core::store::{
    AccountQuery, AuditQuery, Bump, Changed, ClientUpdate, Issue, IssueOutcome, NewClient, RotateOutcome, Rotation,
    SealedSecret, TokenFilter, TokenQuery, Touch, Warrant,
};
use counterfoil_core::token::{Kind, Metadata, Sighting, Source, TokenId, TokenName, UserAgent};
use counterfoil_core::{
    Abilities, Account, AccountChange, AccountStore, AuditStore, ClientId, ClientName, Distinct, Email, MemoryStore,
    Policy, SubjectId, SubjectState, Timestamp, TokenStore, Username,
};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_172_400_000);

/// Dice that fall the same way for the same seed.
pub(crate) struct Dice(pub PredictableEntropy);

impl Dice {
    fn below(&self, sides: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes).expect("entropy");
        u64::from_le_bytes(bytes) % sides
    }

    fn one_in(&self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    fn of<'a, T>(&self, things: &'a [T]) -> Option<&'a T> {
        things.get(usize::try_from(self.below(things.len().max(1) as u64)).expect("few"))
    }

    fn digest(&self) -> TokenDigest {
        let mut bytes = [0; 32];
        self.0.fill(&mut bytes).expect("entropy");
        TokenDigest::from_bytes(bytes)
    }
}

/// What is kept beside tokens.
pub(crate) trait Beside: AccountStore + AuditStore {}

impl<T: AccountStore + AuditStore> Beside for T {}

pub(crate) struct History<'a> {
    dice: Dice,
    twins: [&'a dyn TokenStore; 2],
    /// Whether the second one is the reference in memory, which logs no more than it must.
    reference: bool,
    /// What both keep as it is.
    texts: &'a [&'a str],
    /// Where both keep accounts and the audit log too.
    beside: Option<[&'a dyn Beside; 2]>,
    subjects: Vec<SubjectId>,
    clients: Vec<ClientId>,
    tokens: Vec<TokenId>,
    digests: Vec<(DigestScheme, TokenDigest)>,
    sealed: Vec<SealedSecret>,
    now: Timestamp,
}

impl History<'_> {
    /// Asks both and sees that they agree.
    fn ask<T: std::fmt::Debug>(&self, what: &str, question: impl Fn(&dyn TokenStore) -> T) -> T {
        let [one, other] = self.twins.map(&question);
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "{what}");
        one
    }

    fn ask_beside<T: std::fmt::Debug>(&self, what: &str, question: impl Fn(&dyn Beside) -> T) {
        let Some(beside) = self.beside else { return };
        let [one, other] = beside.map(&question);
        assert_eq!(format!("{one:?}"), format!("{other:?}"), "{what}");
    }

    fn later(&self, most: u64) -> Timestamp {
        self.now.plus_millis(self.dice.below(most))
    }

    fn source(&self) -> Source {
        if self.dice.one_in(3) {
            return Source::default();
        }
        let last = self.dice.below(8);
        Source { ip: format!("2001:db8::{last:x}").parse().ok(), user_agent: UserAgent::cut(b"twin/1") }
    }

    fn some_digest(&self) -> (DigestScheme, TokenDigest) {
        match self.dice.of(&self.digests) {
            Some(known) if !self.dice.one_in(10) => *known,
            Some(_) | None => (DigestScheme::Native, self.dice.digest()),
        }
    }

    fn some_token(&self) -> TokenId {
        match self.dice.of(&self.tokens) {
            Some(known) if !self.dice.one_in(20) => *known,
            Some(_) | None => TokenId::from_bytes([0xee; 16]),
        }
    }

    fn some_subject(&self) -> SubjectId {
        self.dice.of(&self.subjects).expect("some").clone()
    }

    fn some_client(&self) -> ClientId {
        *self.dice.of(&self.clients).expect("some")
    }

    fn some_time(&self) -> Timestamp {
        NOW.plus_millis(self.dice.below(self.now.millis_since(NOW) + 2))
    }

    /// Mostly narrow, so that something stays alive.
    fn some_filter(&self) -> TokenFilter {
        let dice = &self.dice;
        TokenFilter {
            subject: (!dice.one_in(3)).then(|| self.some_subject()),
            client: dice.one_in(4).then(ClientName::default_client),
            kind: dice.one_in(3).then(|| *dice.of(&[Kind::Login, Kind::Key]).expect("two")),
            issued_before: dice.one_in(3).then(|| self.some_time()),
            used_before: dice.one_in(3).then(|| self.some_time()),
            ip: if dice.one_in(3) { self.source().ip } else { None },
        }
    }

    fn revoke_matching(&self) {
        let (now, filter) = (self.now, self.some_filter());
        let batch = 1 + u32::try_from(self.dice.below(3)).expect("few");
        let count = self.ask("count matching", |store| wait(store.count_matching(&filter, now)));
        let mut revoked = 0;
        loop {
            let some = self.ask("revoke matching", |store| wait(store.revoke_matching(&filter, batch, now)));
            self.compare_answers();
            revoked += some;
            if some < u64::from(batch) {
                break;
            }
        }
        assert_eq!(revoked, count, "{filter:?}");
    }

    fn try_a_password(&self) {
        let (now, subject) = (self.now, self.some_subject());
        match self.dice.below(8) {
            0 => self.ask("nobody's try", |store| format!("{:?}", wait(store.count_try(None, now)))),
            1 => self.ask("give back", |store| format!("{:?}", wait(store.give_back_try(Some(&subject))))),
            2 => self.ask("forget tries", |store| format!("{:?}", wait(store.forget_tries(&subject)))),
            _ => {
                let times = self.dice.below(4);
                self.ask("try", |store| {
                    let judged: Vec<_> = (0..times).map(|_| wait(store.count_try(Some(&subject), now))).collect();
                    format!("{judged:?}")
                })
            }
        };
    }

    /// What was read just now or some time ago, as it was or with another seal.
    fn reseal(&mut self) {
        let key_id = 1 + u32::try_from(self.dice.below(3)).expect("few");
        let after = self.dice.below(9);
        let mut page = self.ask("sealed", |store| wait(store.sealed_otherwise(key_id, after, 5)));
        self.sealed.append(&mut page);
        for _ in 0..4 {
            let Some(mut was) = self.dice.of(&self.sealed).cloned() else { return };
            if self.dice.one_in(4) {
                was.sealed.bytes.push(0);
            }
            let sealed = Sealed { key_id, bytes: self.dice.digest().as_bytes().to_vec() };
            self.ask("reseal", |store| wait(store.reseal(&was, &sealed)));
        }
    }

    fn some_username(&self) -> Username {
        let names = ["ada", "Ada", "ADAM", "a%", "a_b", "bob", "Éva", "éva", "evelyn", "z", "аda", "b0b", "lda", "Ida"];
        self.dice.of(&names).expect("some").parse().expect("a user name")
    }

    fn some_email(&self) -> Option<Email> {
        let addresses = ["ada@example.org", "ADA@example.org", "bob@example.org"];
        (!self.dice.one_in(3)).then(|| self.dice.of(&addresses).expect("some").parse().expect("an address"))
    }

    fn some_role(&self) -> Role {
        *self.dice.of(&[Role::User, Role::User, Role::Staff, Role::Admin]).expect("some")
    }

    fn some_text(&self) -> String {
        (*self.dice.of(self.texts).expect("some")).to_owned()
    }

    fn some_account(&self) -> SubjectId {
        format!("account-{}", self.dice.below(8)).parse().expect("a subject")
    }

    fn account(&self) {
        let (dice, subject) = (&self.dice, self.some_account());
        match dice.below(8) {
            0 => {
                self.ask_beside("delete account", |store| wait(store.delete(&subject)));
            }
            1..=3 => {
                let email = self.some_email();
                let account = Account {
                    subject,
                    username: self.some_username(),
                    email_confirmed_at: email.as_ref().and(dice.one_in(2).then_some(self.now)),
                    email,
                    first_name: self.some_text(),
                    last_name: self.some_text(),
                    attributes: Metadata::default(),
                    locale: None,
                    active: !dice.one_in(3),
                    role: self.some_role(),
                    created_at: self.now,
                    last_login_at: None,
                    rotation_locked: dice.one_in(2),
                };
                let distinct = if dice.one_in(2) { Distinct::ByLook } else { Distinct::ByCase };
                let password = EncodedPassword::unusable();
                self.ask_beside("create account", |store| wait(store.create(&account, &password, distinct)));
            }
            _ => {
                let changes: Vec<AccountChange> = (0..dice.below(5)).map(|_| self.some_change()).collect();
                self.ask_beside("change account", |store| wait(store.change(&subject, &changes)));
            }
        }
    }

    fn some_change(&self) -> AccountChange {
        let dice = &self.dice;
        match dice.below(9) {
            0 => AccountChange::Active(dice.one_in(2)),
            1 => AccountChange::Role(self.some_role()),
            2 => {
                let email = self.some_email();
                let confirmed_at = email.as_ref().and(dice.one_in(2).then_some(self.now));
                AccountChange::Email(email, confirmed_at)
            }
            3 => AccountChange::FirstName(self.some_text()),
            4 => AccountChange::LastName(self.some_text()),
            5 => {
                let facts = [("plan".to_owned(), self.some_text().into())];
                AccountChange::Attributes(Metadata::new(facts.into_iter().collect()).expect("short"))
            }
            6 => AccountChange::Locale(dice.one_in(2).then(|| "de-CH".to_owned())),
            7 => AccountChange::RotationLocked(dice.one_in(2)),
            _ => AccountChange::LoggedIn(self.now),
        }
    }

    fn compare_accounts(&self) {
        let dice = &self.dice;
        let names = ["", "a", "A", "ad", "a%", "_", "é", "E", "zz", "\u{10ffff}"];
        let query = AccountQuery {
            name: dice.one_in(2).then(|| (*dice.of(&names).expect("some")).to_owned()),
            email: if dice.one_in(3) { self.some_email() } else { None },
            role: dice.one_in(3).then(|| self.some_role()),
            active: dice.one_in(3).then(|| dice.one_in(2)),
            after: dice.one_in(3).then(|| self.some_username()),
            limit: 1 + u32::try_from(dice.below(8)).expect("few"),
        };
        self.ask_beside("accounts", |store| wait(store.accounts(&query)));
    }

    fn some_event(&self) -> &'static str {
        self.dice.of(&["logged_in", "login_failed", "token_revoked"]).expect("some")
    }

    fn audit(&self) {
        let dice = &self.dice;
        if dice.one_in(5) {
            let (removed, anonymous) = (self.some_time(), self.some_time());
            self.ask_beside("forget entries", |store| wait(store.forget(removed, anonymous, 10_000)));
            return;
        }
        let entries: Vec<Entry> = (0..dice.below(4))
            .map(|_| Entry {
                at: self.some_time(),
                event: self.some_event().into(),
                actor: match dice.below(5) {
                    0 => Actor::Stranger,
                    1 => Actor::Operator,
                    2 => Actor::Deployment,
                    _ => Actor::Holder { subject: self.some_subject(), token: self.some_token() },
                },
                subject: dice.one_in(2).then(|| self.some_subject()),
                client: dice.one_in(2).then(ClientName::default_client),
                token: dice.one_in(2).then(|| self.some_token()),
                kind: dice.one_in(2).then_some(Kind::Key),
                username: dice.one_in(2).then(|| self.some_text()),
                detail: dice.one_in(2).then(|| self.some_text()),
                source: self.source(),
                times: 1 + u32::try_from(dice.below(9)).expect("few"),
            })
            .collect();
        self.ask_beside("append", |store| wait(store.append(&entries)));
    }

    fn compare_audit(&self) {
        let dice = &self.dice;
        let query = AuditQuery {
            event: dice.one_in(3).then(|| self.some_event().to_owned()),
            subject: dice.one_in(3).then(|| self.some_subject()),
            by: dice.one_in(3).then(|| self.some_subject()),
            client: dice.one_in(4).then(ClientName::default_client),
            token: dice.one_in(3).then(|| self.some_token()),
            ip: if dice.one_in(4) { self.source().ip } else { None },
            since: dice.one_in(4).then(|| self.some_time()),
            until: dice.one_in(4).then(|| self.some_time()),
            before: dice.one_in(3).then(|| dice.below(60)),
            limit: 1 + u32::try_from(dice.below(50)).expect("few"),
        };
        self.ask_beside("entries", |store| wait(store.entries(&query)));
    }

    fn issue(&mut self) {
        let dice = &self.dice;
        let scheme = if dice.one_in(8) { DigestScheme::PlainText } else { DigestScheme::Native };
        let repeated = dice.one_in(15);
        let digest = if repeated { self.some_digest().1 } else { dice.digest() };
        let id =
            if dice.one_in(25) { self.some_token() } else { TokenId::generate(self.now, &dice.0).expect("entropy") };
        let client = self.some_client();
        let version = self.ask("clients", |store| wait(store.clients()));
        let version = version.iter().find(|known| known.id == client).map_or(1, |known| known.version);
        let subject = self.some_subject();
        let epoch = self.ask("subject", |store| wait(store.subject(&subject))).map(|subject| subject.epoch);
        let issue = Issue {
            id,
            kind: if dice.one_in(4) { Kind::Key } else { Kind::Login },
            subject,
            client,
            client_version: if dice.one_in(20) { version + 1 } else { version },
            warrant: match (dice.below(3), epoch) {
                (0, Some(mut epoch)) => {
                    epoch.0 += u64::from(dice.one_in(5));
                    Warrant::Password(epoch)
                }
                (1, _) => Warrant::Token(self.some_token()),
                _ => Warrant::Operator,
            },
            name: dice.one_in(2).then(|| TokenName::cut("laptop")).flatten(),
            abilities: if dice.one_in(3) { "a:read a:write".parse().expect("two") } else { Abilities::everything() },
            metadata: Metadata::default(),
            expires_at: (!dice.one_in(4)).then(|| self.later(5_000)),
            digest,
            scheme,
            sealed: (!dice.one_in(3)).then(|| Sealed { key_id: 1, bytes: digest.as_bytes().to_vec() }),
            source: self.source(),
            cap: dice.one_in(3).then(|| Cap {
                limit: NonZeroU32::new(1 + u32::try_from(dice.below(3)).expect("few")).expect("not zero"),
                at_cap: if dice.one_in(2) { AtCap::Refuse } else { AtCap::EvictOldest },
            }),
            reissue: *dice.of(&[Reissue::New, Reissue::New, Reissue::Replace, Reissue::Same]).expect("some"),
        };
        let outcome = self.ask("issue", |store| wait(store.issue(&issue, self.now)));
        if matches!(outcome, IssueOutcome::Issued { .. }) {
            self.tokens.push(id);
            self.know(scheme, digest);
        }
    }

    /// A digest whose token was purged may come again under another scheme.
    fn know(&mut self, scheme: DigestScheme, digest: TokenDigest) {
        self.digests.retain(|(_, known)| *known != digest);
        self.digests.push((scheme, digest));
    }

    fn rotate(&mut self, rotation: &Rotation) {
        let outcome = self.ask("rotate", |store| wait(store.rotate(rotation, self.now)));
        if matches!(outcome, RotateOutcome::Rotated(_)) {
            self.know(DigestScheme::Native, rotation.successor);
        }
    }

    fn step(&mut self) {
        let now = self.now;
        match self.dice.below(34) {
            0..=6 => self.issue(),
            7 => {
                let (id, owned, kinded) = (self.some_token(), self.dice.one_in(3), self.dice.one_in(3));
                let owner = self.some_subject();
                let (owner, kind) = (owned.then_some(&owner), kinded.then_some(Kind::Login));
                self.ask("revoke", |store| wait(store.revoke(id, owner, kind, now)));
            }
            8 | 9 => {
                let (id, until) = (self.some_token(), (!self.dice.one_in(8)).then(|| self.later(8_000)));
                self.ask("renew", |store| wait(store.renew(id, until, now)));
            }
            10..=12 => {
                let (scheme, presented) = self.some_digest();
                let rotation = Rotation {
                    id: self.some_token(),
                    presented,
                    successor: if self.dice.one_in(10) { self.some_digest().1 } else { self.dice.digest() },
                    sealed: self.dice.one_in(2).then(|| Sealed { key_id: 2, bytes: vec![2; 40] }),
                    grace_until: self.later(600),
                };
                // Mostly a pair that belongs together.
                let pair = Candidates::Imported(vec![(scheme, presented)]);
                let id = self.ask("find", |store| wait(store.find(&pair))).map_or(rotation.id, |found| found.id);
                let rotation = Rotation { id, ..rotation };
                self.rotate(&rotation);
                if self.dice.one_in(2) {
                    // The reply was lost.
                    self.rotate(&Rotation { successor: self.dice.digest(), ..rotation });
                }
            }
            13 => {
                let (scheme, digest) = self.some_digest();
                let whose = Candidates::Imported(vec![(scheme, digest)]);
                let found = self.ask("find", |store| wait(store.find(&whose)));
                let id = found.map_or_else(|| self.some_token(), |found| found.id);
                self.ask("settle", |store| wait(store.settle_rotation(id, &digest, now)));
            }
            14 => {
                let bump = match self.dice.below(8) {
                    0 => Bump::Deployment,
                    1 | 2 => Bump::Client(self.some_client()),
                    _ => Bump::Subject {
                        id: self.some_subject(),
                        keys_too: self.dice.one_in(3),
                        keep: self.dice.one_in(2).then(|| self.some_token()),
                    },
                };
                self.ask("bump", |store| wait(store.bump_epoch(&bump, now)));
            }
            15 => {
                let id = self.some_subject();
                let states = [SubjectState::Active, SubjectState::Active, SubjectState::Disabled];
                let state =
                    if self.dice.one_in(12) { SubjectState::Buried } else { *self.dice.of(&states).expect("some") };
                self.ask("state", |store| wait(store.set_subject_state(&id, state, now)));
            }
            16 => {
                let id: SubjectId = format!("subject-{}", self.dice.below(9)).parse().expect("a subject");
                self.ask("open subject", |store| wait(store.open_subject(&id, now)));
                self.subjects.push(id);
            }
            17 => {
                let touches: Vec<Touch> = (0..self.dice.below(4))
                    .map(|_| Touch {
                        id: self.some_token(),
                        seen: Sighting { at: self.later(3), source: self.source() },
                        renew_until: self.dice.one_in(2).then(|| self.later(9_000)),
                    })
                    .collect();
                self.ask("touch", |store| wait(store.touch(&touches, now)));
            }
            18 => {
                let (id, owner) = (self.some_token(), self.some_subject());
                let name = TokenName::cut("phone");
                self.ask("rename", |store| wait(store.rename(id, &owner, Kind::Login, name.clone(), now)));
            }
            19 => {
                let new = NewClient {
                    id: ClientId::generate(now, &self.dice.0).expect("entropy"),
                    name: format!("client-{}", self.dice.below(4)).parse().expect("a name"),
                    policy: Policy::default(),
                    allow_login: true,
                    metadata: Metadata::default(),
                    created_at: now,
                };
                if self.ask("create client", |store| wait(store.create_client(&new))).is_some() {
                    self.clients.push(new.id);
                }
            }
            20 => {
                let id = self.some_client();
                if self.dice.one_in(4) {
                    if self.ask("delete client", |store| wait(store.delete_client(id, now))) {
                        self.compare_answers();
                        // The reference forgets its tokens at once; here their ids and digests are taken until a purge,
                        // which owes them no time.
                        self.twins.iter().for_each(|store| while wait(store.purge(Timestamp::MIN, 3)) > 0 {});
                    }
                } else {
                    let update = ClientUpdate {
                        id,
                        version: 1 + self.dice.below(3),
                        name: format!("client-{}", self.dice.below(4)).parse().expect("a name"),
                        policy: Policy::default(),
                        allow_login: self.dice.one_in(2),
                    };
                    self.ask("update client", |store| wait(store.update_client(&update, now)));
                }
            }
            21 if self.dice.one_in(2) => self.revoke_matching(),
            22..=24 => self.try_a_password(),
            25 | 26 => self.reseal(),
            27..=29 => self.account(),
            30..=32 => self.audit(),
            _ => {
                if self.dice.one_in(6) {
                    self.ask("purge", |store| wait(store.purge(now, 10_000)));
                }
            }
        }
    }

    /// Everything that can be asked.
    fn compare_answers(&self) {
        for (scheme, digest) in &self.digests {
            // Not the other way round: the reference forgets the scheme of a secret that was rotated away.
            if *scheme == DigestScheme::Native {
                let native = Candidates::Native(*digest);
                self.ask("find", |store| wait(store.find(&native)));
            }
            let imported = Candidates::Imported(vec![(DigestScheme::KnoxSha512, *digest), (*scheme, *digest)]);
            self.ask("find imported", |store| wait(store.find(&imported)));
        }
        let all = TokenQuery { limit: 10_000, ..TokenQuery::default() };
        self.ask("list", |store| wait(store.list(&all)));
        let living = TokenQuery { live_at: Some(self.now), ..all };
        self.ask("list the living", |store| wait(store.list(&living)));
        for _ in 0..4 {
            let query = TokenQuery {
                filter: self.some_filter(),
                live_at: self.dice.one_in(2).then_some(self.now),
                after: self.dice.below(9),
                limit: 3,
            };
            self.ask("list some", |store| wait(store.list(&query)));
            self.ask("count some", |store| wait(store.count_matching(&query.filter, self.now)));
            self.compare_accounts();
            self.compare_audit();
        }
        for subject in &self.subjects {
            self.ask("tries", |store| wait(store.tries(subject)));
        }
        for key_id in 0..4 {
            self.ask("sealed", |store| {
                let page = wait(store.sealed_otherwise(key_id, 0, 10_000));
                page.into_iter().map(|secret| (secret.sealed.bytes.clone(), secret)).collect::<Vec<_>>()
            });
        }
        self.ask("samples", |store| wait(store.sealed_samples(self.now)));
        self.ask("clients", |store| wait(store.clients()));
    }

    /// Everything that can be asked, and what the log named since the last time.
    fn compare(&self, heads: &mut [u64; 2]) {
        self.compare_answers();
        let mut named = [BTreeSet::new(), BTreeSet::new()];
        for ((store, head), named) in self.twins.iter().zip(heads).zip(&mut named) {
            let changes = wait(store.changes(*head, 10_000));
            *head = changes.head;
            for change in changes.rows {
                match change.what {
                    Changed::Tokens(digests) => {
                        named.extend(digests.iter().map(|digest| format!("{:?}", digest.as_bytes())));
                    }
                    whole @ (Changed::Subject(_) | Changed::Client(_) | Changed::Everything) => {
                        named.insert(format!("{whole:?}"));
                    }
                }
            }
        }
        let [one, other] = named;
        assert!(one.is_superset(&other), "what the other logs, this logs: {:?}", other.difference(&one));
        assert!(self.reference || one == other, "and no more than it: {:?}", one.difference(&other));
    }
}

/// Texts that are kept as they are by a store that keeps whatever is text.
const TEXTS: [&str; 4] = ["", "Ada", "'; DROP TABLE accounts; --", "%_\\\u{0}\n\u{10ffff}"];

/// Tells one history of `steps` steps to `store`, which is empty and opened with its default client, and to the reference.
pub(crate) fn tell(
    seed: u64,
    steps: u64,
    store: &dyn TokenStore,
    beside: Option<&dyn Beside>,
    open: impl FnOnce(&dyn TokenStore),
) {
    let memory = MemoryStore::new();
    open(&memory);
    let beside = beside.map(|beside| [beside, &memory as &dyn Beside]);
    History { reference: true, ..History::of(seed, [store, &memory], beside, &TEXTS) }.tell(steps);
}

/// Tells one history to two stores that are empty and opened with the same default client, and whose logs say the same. Only
/// `texts` are told of what may be any text.
pub(crate) fn tell_both<S: TokenStore + AccountStore + AuditStore, T: TokenStore + AccountStore + AuditStore>(
    seed: u64,
    steps: u64,
    one: &S,
    other: &T,
    texts: &[&str],
) {
    History::of(seed, [one, other], Some([one, other]), texts).tell(steps);
}

impl<'a> History<'a> {
    fn of(
        seed: u64,
        twins: [&'a dyn TokenStore; 2],
        beside: Option<[&'a dyn Beside; 2]>,
        texts: &'a [&'a str],
    ) -> History<'a> {
        let default = wait(twins[0].client(&ClientName::default_client())).expect("the default client").id;
        History {
            clients: vec![default],
            subjects: vec!["subject-0".parse().expect("a subject"), "nobody".parse().expect("a subject")],
            dice: Dice(PredictableEntropy::from_seed(seed)),
            twins,
            reference: false,
            texts,
            beside,
            tokens: Vec::new(),
            digests: Vec::new(),
            sealed: Vec::new(),
            now: NOW,
        }
    }

    fn tell(mut self, steps: u64) {
        self.ask("open subject", |store| wait(store.open_subject(&self.subjects[0], NOW)));
        let mut heads = [0, 0];
        for step in 0..steps {
            self.now = self.later(200);
            self.step();
            if step % 7 == 0 {
                self.compare(&mut heads);
            }
        }
        self.compare(&mut heads);
    }
}

/// A default client of that id.
pub(crate) fn default_client(id: ClientId) -> NewClient {
    NewClient {
        id,
        name: ClientName::default_client(),
        policy: Policy::default(),
        allow_login: true,
        metadata: Metadata::default(),
        created_at: NOW,
    }
}
