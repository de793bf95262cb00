//! Accounts in the hands of their owners: registration, addresses, passwords, and the mails that go with them.
use std::sync::{Arc, Mutex};

use counterfoil_core::account::{Account, NewAccount, Role};
use counterfoil_core::account_rules::{AccountRules, EmailRule, Links, Registering, Unconfirmed};
use counterfoil_core::authority::{
    ChangeOfAddress, ChangeOfPassword, Delivery, MailParts, NewRegistration, Proof, Registered,
};
use counterfoil_core::event::{Limit, LoginFailure, MailLoss};
use counterfoil_core::language::Languages;
use counterfoil_core::link::Purpose;
use counterfoil_core::mail::{Letter, Mailer, NotSent, Sending};
use counterfoil_core::redirect::Redirects;
use counterfoil_core::{AccountChange, Email, Error, Event, Identity, Refusal, Source, UserAgent};

use super::world::{PASSWORD, World, answer, any_key, life, password, refused};

const NEW_PASSWORD: &str = "thirty-one lighthouses at dusk";
const ADDRESS: &str = "ada@example.org";

/// Keeps the letters, or fails as it is told.
#[derive(Debug, Default)]
struct Postbox {
    letters: Mutex<Vec<Letter>>,
    fails: Mutex<Option<bool>>,
}

impl Mailer for Postbox {
    fn send(&self, letter: Letter) -> Sending<'_> {
        let outcome = match *self.fails.lock().unwrap() {
            None => Ok(()),
            Some(true) => Err(NotSent::Later("the server is away".into())),
            Some(false) => Err(NotSent::Never("no such mailbox".into())),
        };
        if outcome.is_ok() {
            self.letters.lock().unwrap().push(letter);
        }
        Box::pin(std::future::ready(outcome))
    }
}

/// A world with mail.
struct House {
    world: World,
    postbox: Arc<Postbox>,
}

fn house(change: impl FnOnce(&mut AccountRules)) -> House {
    let postbox = Arc::new(Postbox::default());
    let mailer = Arc::clone(&postbox);
    let world = World::with(|parts| {
        let store = Arc::new(counterfoil_core::MemoryStore::new());
        parts.mail = Some(MailParts { store, mailer });
        let rules = &mut parts.settings.accounts;
        rules.links = Links { base: Some("https://auth.example.org".to_owned()), ..Links::default() };
        rules.registration = Registering::Anybody;
        change(rules);
    });
    House { world, postbox }
}

/// Registration needs a proved address, and so does a login.
fn strict() -> House {
    house(|rules| rules.unconfirmed = Unconfirmed::Waits)
}

fn email(text: &str) -> Email {
    text.parse().unwrap()
}

fn ada() -> NewRegistration {
    NewRegistration {
        username: "ada".parse().unwrap(),
        password: password(PASSWORD),
        email: Some(email(ADDRESS)),
        first_name: String::new(),
        last_name: String::new(),
        locale: None,
        languages: Languages::of(None, Some("de")),
        next: None,
    }
}

impl House {
    fn register(&self, new: NewRegistration) -> Result<Registered, Error> {
        answer(self.world.authority.register(new, &self.world.source, self.world.now()))
    }

    /// Sends what is due, and hands out what was sent: the kind, the address, the secret of the link if there is one. In the
    /// order of the kinds: mails of one instant have no other.
    fn post(&self) -> Vec<(&'static str, String, Option<String>)> {
        loop {
            let mails = answer(self.world.authority.claim_mails(16, self.world.now())).unwrap();
            if mails.is_empty() {
                break;
            }
            for mail in mails {
                answer(self.world.authority.deliver(mail, self.world.now())).unwrap();
            }
        }
        let mut letters = std::mem::take(&mut *self.postbox.letters.lock().unwrap());
        letters.sort_by_key(|letter| letter.kind.name());
        let told = |letter: Letter| {
            let url = letter.url.as_ref().map_or("", |url| url.expose());
            let secret = url.rsplit('/').next().filter(|last| last.starts_with("cfl_")).map(str::to_owned);
            (letter.kind.name(), letter.to.to_string(), secret)
        };
        letters.into_iter().map(told).collect()
    }

    /// The secret in the one mail of that kind.
    fn link(&self, kind: &str) -> String {
        let letters = self.post();
        let mut of_kind = letters.iter().filter(|(name, ..)| *name == kind);
        let (Some((_, _, Some(secret))), None) = (of_kind.next(), of_kind.next()) else {
            panic!("not one link of {kind}: {letters:?}")
        };
        secret.clone()
    }

    fn confirm(&self, link: &str, text: &str) -> Result<Account, Error> {
        let proof = Proof::Password(password(text));
        let confirmed = self.world.authority.confirm_email(link, proof, &self.world.source, self.world.now());
        answer(confirmed).map(|confirmed| confirmed.account)
    }

    fn forgot(&self, text: &str) -> Result<(), Error> {
        let World { authority, source, .. } = &self.world;
        answer(authority.ask_reset(&email(text), Languages::default(), None, source, self.world.now()))
    }

    fn reset(&self, link: &str, text: &str) -> Result<(), Error> {
        let World { authority, source, .. } = &self.world;
        answer(authority.reset_password(link, password(text), source, self.world.now())).map(drop)
    }

    fn change_password(&self, who: &Identity, current: &str, new: &str, keys_too: bool) -> Result<(), Error> {
        let change = ChangeOfPassword { current: password(current), new: password(new), keys_too };
        let World { authority, source, .. } = &self.world;
        answer(authority.change_own_password(who, change, source, self.world.now()))
    }

    fn ask_change(&self, who: &Identity, to: &str, text: &str) -> Result<(), Error> {
        let wanted =
            ChangeOfAddress { email: email(to), password: password(text), languages: Languages::default(), next: None };
        let World { authority, source, .. } = &self.world;
        answer(authority.ask_email_change(who, wanted, source, self.world.now()))
    }

    fn login(&self, name: &str, text: &str) -> Result<String, Error> {
        self.world.try_login(name, text, None).map(|logged_in| super::world::text(&logged_in.issued))
    }

    /// Ada with a confirmed address.
    fn with_ada(self) -> House {
        let new = NewAccount {
            email: Some(email(ADDRESS)),
            email_confirmed: true,
            ..NewAccount::named("ada".parse().unwrap())
        };
        self.make(new);
        self
    }

    fn make(&self, new: NewAccount) -> Account {
        let World { authority, .. } = &self.world;
        answer(authority.create_user(new, Some(password(PASSWORD)), &self.world.by(), self.world.now())).unwrap()
    }

    fn account(&self) -> Account {
        answer(self.world.authority.user("ada")).unwrap()
    }
}

#[test]
fn who_registers_proves_the_address_and_then_has_an_account() {
    let house = strict();
    assert!(matches!(house.register(ada()), Ok(Registered::ProofAsked)));
    assert_eq!(refused(answer(house.world.authority.user("ada"))), Refusal::NotFound, "nothing but a wish so far");
    assert_eq!(refused(house.login("ada", PASSWORD)), Refusal::CredentialsRejected);
    let link = house.link("confirm_registration");
    let account = house.confirm(&link, PASSWORD).unwrap();
    assert_eq!((account.username.as_str(), account.email_confirmed_at), ("ada", Some(house.world.now().wall)));
    house.login(ADDRESS, PASSWORD).unwrap();
    assert_eq!(refused(house.confirm(&link, PASSWORD)), Refusal::LinkDead);
}

#[test]
fn a_link_is_mailed_again_to_whoever_registered_and_lost_it() {
    let house = strict();
    house.register(ada()).unwrap();
    house.post();
    let again = |text: &str| {
        let World { authority, source, .. } = &house.world;
        let (now, languages) = (house.world.now(), Languages::default());
        answer(authority.ask_confirmation_by_address(&email(text), languages, None, source, now)).unwrap();
    };
    again("ADA@example.org");
    let link = house.link("confirm_registration");
    house.confirm(&link, PASSWORD).unwrap();
    for confirmed_or_unknown in [ADDRESS, "nobody@example.org"] {
        again(confirmed_or_unknown);
        assert_eq!(house.post(), []);
    }
}

#[test]
fn where_nobody_has_to_prove_it_the_account_is_there_at_once_and_opens_by_its_name() {
    let house = house(|rules| rules.email = EmailRule::Optional);
    let Ok(Registered::Account(account)) = house.register(ada()) else { panic!("no account") };
    assert_eq!(account.email_confirmed_at, None);
    house.login("ada", PASSWORD).unwrap();
    assert_eq!(refused(house.login(ADDRESS, PASSWORD)), Refusal::CredentialsRejected, "it is not proved");
    let link = house.link("confirm_address");
    house.confirm(&link, PASSWORD).unwrap();
    house.login(ADDRESS, PASSWORD).unwrap();
    let taken = NewRegistration { username: "ADA".parse().unwrap(), email: None, ..ada() };
    assert_eq!(refused(house.register(taken)), Refusal::UsernameTaken, "a name may be said to be taken");
}

#[test]
fn a73_nobody_registers_where_it_is_closed() {
    let house = house(|rules| rules.registration = Registering::Nobody);
    assert_eq!(refused(house.register(ada())), Refusal::RegistrationClosed);
    assert_eq!(house.post(), []);
    // And it is closed unless it was opened.
    assert_eq!(AccountRules::default().registration, Registering::Nobody);
}

#[test]
fn a51_an_address_that_has_an_account_gets_the_same_answer_and_its_owner_a_mail() {
    let house = strict().with_ada();
    let again = NewRegistration { username: "lovelace".parse().unwrap(), ..ada() };
    assert!(matches!(house.register(again), Ok(Registered::ProofAsked)));
    let [(kind, to, link)] = &house.post()[..] else { panic!("not one mail") };
    assert_eq!((*kind, to.as_str(), link), ("already_registered", ADDRESS, &None));
    // The name tells nothing either: it is as free as it was after any registration that nobody has proved.
    let third = NewRegistration { username: "lovelace".parse().unwrap(), email: Some(email("x@example.org")), ..ada() };
    assert!(matches!(house.register(third), Ok(Registered::ProofAsked)));
}

#[test]
fn a70_whoever_registers_in_anothers_name_waits_in_vain() {
    // The thief registers with the victim's address; the victim does not know the password, so the link does nothing.
    let house = strict();
    house.register(ada()).unwrap();
    let link = house.link("confirm_registration");
    assert_eq!(refused(house.confirm(&link, "what the victim would have chosen")), Refusal::PasswordWrong);
    // The victim registers as well, with the same name even, and proves it: the thief's wish is void.
    let victim = NewRegistration { password: password(NEW_PASSWORD), ..ada() };
    house.register(victim).unwrap();
    let own = house.link("confirm_registration");
    house.confirm(&own, NEW_PASSWORD).unwrap();
    assert_eq!(refused(house.confirm(&link, PASSWORD)), Refusal::UsernameTaken);
    assert_eq!(refused(house.login("ada", PASSWORD)), Refusal::CredentialsRejected);
}

#[test]
fn a70_the_first_proof_of_an_address_ends_the_password_tokens_and_keys_from_before() {
    let house = house(|_| {});
    house.register(ada()).unwrap();
    house.post();
    let thief = house.login("ada", PASSWORD).unwrap();
    let key = house.world.key(&thief, any_key()).unwrap();
    house.forgot(ADDRESS).unwrap();
    let link = house.link("reset_password");
    house.reset(&link, NEW_PASSWORD).unwrap();
    for dead in [&thief, &key] {
        assert_eq!(refused(house.world.authenticate(dead)), Refusal::TokenRevoked);
    }
    assert_eq!(refused(house.login("ada", PASSWORD)), Refusal::CredentialsRejected);
    assert!(house.account().email_confirmed_at.is_some());
    house.login(ADDRESS, NEW_PASSWORD).unwrap();
}

#[test]
fn a49_an_unconfirmed_address_is_refused_like_a_wrong_password_where_it_has_to_be_confirmed() {
    let house = strict();
    house.make(NewAccount { email: Some(email(ADDRESS)), ..NewAccount::named("ada".parse().unwrap()) });
    house.world.happened();
    assert_eq!(refused(house.login("ada", PASSWORD)), Refusal::CredentialsRejected);
    let why = house.world.happened().into_iter().find_map(|event| {
        let Event::LoginFailed { why, .. } = event else { return None };
        Some(why)
    });
    assert_eq!(why, Some(LoginFailure::Unconfirmed));
    // One without an address has nothing to confirm.
    house.make(NewAccount::named("bob".parse().unwrap()));
    house.login("bob", PASSWORD).unwrap();
}

#[test]
fn a66_a_link_works_once_and_of_many_at_once_one_succeeds() {
    let house = house(|_| {}).with_ada();
    house.forgot(ADDRESS).unwrap();
    house.forgot(ADDRESS).unwrap();
    let links: Vec<String> = house.post().into_iter().filter_map(|(.., link)| link).collect();
    assert_eq!(links.len(), 2, "each of two mails has one that works");
    let outcomes = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|racer| {
                let (house, link) = (&house, &links[racer % 2]);
                scope.spawn(move || house.reset(link, &format!("{NEW_PASSWORD} {racer}")).is_ok())
            })
            .collect();
        tries.into_iter().map(|one| one.join().unwrap()).filter(|&ok| ok).count()
    });
    // Each of the two may have been used before the other ended it, never one of them twice.
    assert!((1..=2).contains(&outcomes), "{outcomes}");
    for link in &links {
        assert_eq!(refused(house.reset(link, NEW_PASSWORD)), Refusal::LinkDead);
    }
}

#[test]
fn r16_a_link_is_dead_at_the_instant_of_its_expiry_and_good_for_one_purpose() {
    let house = house(|rules| rules.reset_within = life("1h")).with_ada();
    house.forgot(ADDRESS).unwrap();
    let link = house.link("reset_password");
    assert_eq!(refused(house.confirm(&link, PASSWORD)), Refusal::LinkDead, "another purpose");
    house.world.wait(3_600_000 - 1);
    let peek = |house: &House| answer(house.world.authority.link(&link, &[Purpose::Reset], house.world.now()));
    assert_eq!(peek(&house).unwrap().email, email(ADDRESS));
    house.world.wait(1);
    assert_eq!(refused(peek(&house)), Refusal::LinkDead);
    assert_eq!(refused(house.reset(&link, NEW_PASSWORD)), Refusal::LinkDead);
}

#[test]
fn a04_a_link_is_no_token_and_a_token_no_link() {
    let house = house(|_| {}).with_ada();
    let token = house.login("ada", PASSWORD).unwrap();
    house.forgot(ADDRESS).unwrap();
    let link = house.link("reset_password");
    assert_eq!(refused(house.world.authenticate(&link)), Refusal::TokenUnknown);
    assert_eq!(refused(house.reset(&token, NEW_PASSWORD)), Refusal::LinkDead);
    for invented in ["", "cfl_", "x", &format!("{}x", &link[..link.len() - 1])] {
        assert_eq!(refused(house.reset(invented, NEW_PASSWORD)), Refusal::LinkDead, "{invented}");
    }
    house.reset(&link, NEW_PASSWORD).unwrap();
}

#[test]
fn a69_a_link_mailed_before_the_address_changed_is_dead() {
    let house = house(|_| {}).with_ada();
    house.forgot(ADDRESS).unwrap();
    let reset = house.link("reset_password");
    let change = vec![AccountChange::Email(Some(email("elsewhere@example.org")), None)];
    let World { authority, .. } = &house.world;
    let subject = house.account().subject;
    answer(authority.change_user(&subject, change, &house.world.by(), house.world.now())).unwrap();
    assert_eq!(refused(house.reset(&reset, NEW_PASSWORD)), Refusal::LinkDead);
    assert_eq!(house.account().email_confirmed_at, None, "the mark falls with the address");
    // What is still in the queue goes nowhere.
    house.forgot("elsewhere@example.org").unwrap();
    let change = vec![AccountChange::Email(Some(email(ADDRESS)), None)];
    answer(authority.change_user(&subject, change, &house.world.by(), house.world.now())).unwrap();
    assert_eq!(house.post(), []);
}

#[test]
fn an_address_is_changed_when_the_new_one_is_proved_and_the_old_one_is_told() {
    let house = house(|_| {}).with_ada();
    let who = house.world.who(&house.login("ada", PASSWORD).unwrap());
    assert_eq!(refused(house.ask_change(&who, "new@example.org", "wrong")), Refusal::PasswordWrong);
    house.ask_change(&who, "new@example.org", PASSWORD).unwrap();
    let told = house.post();
    let kinds: Vec<(&str, &str)> = told.iter().map(|(kind, to, _)| (*kind, to.as_str())).collect();
    assert_eq!(kinds, [("address_change_asked", ADDRESS), ("confirm_new_address", "new@example.org")]);
    assert_eq!(house.account().email, Some(email(ADDRESS)), "nothing is changed yet");
    let link = told[1].2.clone().unwrap();
    house.confirm(&link, PASSWORD).unwrap();
    let account = house.account();
    assert_eq!((account.email, account.email_confirmed_at.is_some()), (Some(email("new@example.org")), true));
    let told = house.post();
    let kinds: Vec<(&str, &str)> = told.iter().map(|(kind, to, _)| (*kind, to.as_str())).collect();
    assert_eq!(kinds, [("address_changed", ADDRESS), ("address_taken", "new@example.org")]);

    // The old address takes it back: whoever did that knew the password, so it opens nothing any more.
    let token = house.login("ada", PASSWORD).unwrap();
    let key = house.world.key(&token, any_key()).unwrap();
    let undo = told[0].2.clone().unwrap();
    let World { authority, source, .. } = &house.world;
    answer(authority.undo_email_change(&undo, source, house.world.now())).unwrap();
    assert_eq!(house.account().email, Some(email(ADDRESS)));
    assert_eq!(refused(house.login("ada", PASSWORD)), Refusal::CredentialsRejected);
    assert_eq!(refused(house.world.authenticate(&key)), Refusal::TokenRevoked);
    let link = house.link("reset_password");
    house.reset(&link, NEW_PASSWORD).unwrap();
    house.login("ada", NEW_PASSWORD).unwrap();
}

#[test]
fn the_first_old_address_takes_back_every_change_and_no_other_takes_it_back_from_there() {
    let house = house(|_| {}).with_ada();
    let thief = house.world.who(&house.login("ada", PASSWORD).unwrap());
    let mut told = Vec::new();
    for to in ["first@evil.example", "second@evil.example"] {
        house.ask_change(&thief, to, PASSWORD).unwrap();
        told.extend(house.post());
        let asked = told.iter().rfind(|(kind, ..)| *kind == "confirm_new_address").unwrap();
        house.confirm(asked.2.as_ref().unwrap(), PASSWORD).unwrap();
    }
    told.extend(house.post());
    told.retain(|(kind, ..)| *kind == "address_changed");
    let links: Vec<(&str, bool)> = told.iter().map(|(_, to, link)| (to.as_str(), link.is_some())).collect();
    assert!(links.contains(&(ADDRESS, true)) && !links.contains(&("first@evil.example", true)), "{links:?}");
    let undo = told.into_iter().find_map(|(_, to, link)| link.filter(|_| to == ADDRESS)).unwrap();
    let World { authority, source, .. } = &house.world;
    answer(authority.undo_email_change(&undo, source, house.world.now())).unwrap();
    assert_eq!(house.account().email, Some(email(ADDRESS)));
    assert_eq!(refused(answer(authority.undo_email_change(&undo, source, house.world.now()))), Refusal::LinkDead);
    // Nothing that was mailed elsewhere works any more, be it still in the queue.
    house.world.wait(3_600_000);
    let kinds: Vec<_> = house.post().into_iter().map(|(kind, to, _)| (kind, to)).collect();
    assert!(kinds.iter().all(|(_, to)| to == ADDRESS), "{kinds:?}");
}

#[test]
fn a57_asking_for_one_thing_in_somebodys_name_keeps_them_from_no_other() {
    let house = house(|_| {}).with_ada();
    let World { authority, source, .. } = &house.world;
    for _ in 0..5 {
        let (to, languages, now) = (email(ADDRESS), Languages::default(), house.world.now());
        answer(authority.ask_confirmation_by_address(&to, languages, None, source, now)).unwrap();
    }
    assert_eq!(house.post(), [], "there is nothing to confirm");
    house.forgot(ADDRESS).unwrap();
    house.reset(&house.link("reset_password"), NEW_PASSWORD).unwrap();
}

#[test]
fn staff_who_change_an_address_are_told_of_to_the_old_one_and_end_every_link() {
    let house = house(|_| {}).with_ada();
    house.forgot(ADDRESS).unwrap();
    let reset = house.link("reset_password");
    let World { authority, .. } = &house.world;
    let change = vec![AccountChange::Email(Some(email("other@example.org")), Some(house.world.now().wall))];
    let subject = house.account().subject;
    answer(authority.change_user(&subject, change, &house.world.by(), house.world.now())).unwrap();
    assert_eq!(house.post(), [("address_changed", ADDRESS.to_owned(), None)]);
    assert_eq!(refused(house.reset(&reset, NEW_PASSWORD)), Refusal::LinkDead);
}

#[test]
fn a_link_mailed_to_a_lesser_account_opens_nothing_of_an_administrator() {
    let house = house(|_| {}).with_ada();
    house.forgot(ADDRESS).unwrap();
    let reset = house.link("reset_password");
    let World { authority, .. } = &house.world;
    let subject = house.account().subject;
    answer(authority.set_role(&subject, Role::Admin, &house.world.by(), house.world.now())).unwrap();
    assert_eq!(refused(house.reset(&reset, NEW_PASSWORD)), Refusal::LinkDead);
}

#[test]
fn r16_a_link_in_a_notice_lives_no_longer_than_one_that_was_asked_for() {
    let house = house(|rules| rules.reset_within = life("10m")).with_ada();
    let who = house.world.who(&house.login("ada", PASSWORD).unwrap());
    house.change_password(&who, PASSWORD, NEW_PASSWORD, false).unwrap();
    house.world.wait(3_600_000);
    let link = house.link("password_changed");
    house.world.wait(600_000);
    assert_eq!(refused(house.reset(&link, PASSWORD)), Refusal::LinkDead);
}

#[test]
fn a_disabled_account_gets_no_other_address_and_no_reset() {
    let house = house(|_| {}).with_ada();
    let who = house.world.who(&house.login("ada", PASSWORD).unwrap());
    house.ask_change(&who, "new@example.org", PASSWORD).unwrap();
    let told = house.post();
    let link = told.iter().find_map(|(kind, _, link)| link.clone().filter(|_| *kind == "confirm_new_address")).unwrap();
    let World { authority, .. } = &house.world;
    let (by, now) = (house.world.by(), house.world.now());
    answer(authority.disable_user(&who.subject, &by, now)).unwrap();
    assert_eq!(refused(house.confirm(&link, PASSWORD)), Refusal::LinkDead);
    assert!(matches!(refused(answer(authority.start_reset(&who.subject, &by, now))), Refusal::Invalid(_)));
}

#[test]
fn a51_a_name_that_is_the_address_itself_tells_nothing_of_it() {
    let house = strict();
    let own = || NewRegistration { username: ADDRESS.parse().unwrap(), ..ada() };
    house.register(own()).unwrap();
    house.confirm(&house.link("confirm_registration"), PASSWORD).unwrap();
    assert!(matches!(house.register(own()), Ok(Registered::ProofAsked)));
    assert_eq!(house.post(), [("already_registered", ADDRESS.to_owned(), None)]);
}

#[test]
fn a69_a_change_of_address_needs_the_password_and_the_new_mailbox() {
    let house = house(|_| {}).with_ada();
    let who = house.world.who(&house.login("ada", PASSWORD).unwrap());
    house.ask_change(&who, "new@example.org", PASSWORD).unwrap();
    let first = house.link("confirm_new_address");
    // Neither the mailbox alone nor somebody else's token will do.
    assert_eq!(refused(house.confirm(&first, "guess")), Refusal::PasswordWrong);
    house.world.user("eve");
    let eve = house.world.who(&house.world.login("eve"));
    let World { authority, source, .. } = &house.world;
    let by_eve = answer(authority.confirm_email(&first, Proof::Holder(&eve), source, house.world.now()));
    assert_eq!(refused(by_eve.map(|confirmed| confirmed.account)), Refusal::PasswordWrong);
    // Another request puts an end to the first.
    house.ask_change(&who, "newer@example.org", PASSWORD).unwrap();
    assert_eq!(refused(house.confirm(&first, PASSWORD)), Refusal::LinkDead);
    // A live login token of the account is as good as its password; a key is not.
    let token = house.login("ada", PASSWORD).unwrap();
    let key = house.world.who(&house.world.key(&token, any_key()).unwrap());
    let second = house.link("confirm_new_address");
    let by_key = answer(authority.confirm_email(&second, Proof::Holder(&key), source, house.world.now()));
    assert_eq!(refused(by_key.map(|confirmed| confirmed.account)), Refusal::PasswordWrong);
    answer(authority.confirm_email(&second, Proof::Holder(&who), source, house.world.now())).unwrap();
    assert_eq!(house.account().email, Some(email("newer@example.org")));
}

#[test]
fn an_address_of_somebody_else_is_told_to_them_and_nothing_is_said() {
    let house = house(|_| {}).with_ada();
    house.world.user("eve");
    let eve = house.world.who(&house.world.login("eve"));
    house.ask_change(&eve, ADDRESS, PASSWORD).unwrap();
    assert_eq!(house.post(), [("already_registered", ADDRESS.to_owned(), None)]);
}

#[test]
fn r09_a_changed_password_ends_every_other_device_and_keys_where_that_is_asked_for() {
    let house = house(|_| {}).with_ada();
    let [here, there] = [0, 1].map(|_| house.login("ada", PASSWORD).unwrap());
    let key = house.world.key(&here, any_key()).unwrap();
    let who = house.world.who(&here);
    house.change_password(&who, PASSWORD, NEW_PASSWORD, false).unwrap();
    house.world.who(&here);
    house.world.who(&key);
    assert_eq!(refused(house.world.authenticate(&there)), Refusal::TokenRevoked);
    assert_eq!(refused(house.login("ada", PASSWORD)), Refusal::CredentialsRejected);
    assert_eq!(house.post().into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>(), ["password_changed"]);
    house.change_password(&who, NEW_PASSWORD, PASSWORD, true).unwrap();
    house.world.who(&here);
    assert_eq!(refused(house.world.authenticate(&key)), Refusal::TokenRevoked);
}

#[test]
fn a72_r10_a_token_alone_changes_neither_password_nor_address_nor_deletes_nor_exports() {
    let house = house(|_| {}).with_ada();
    let who = house.world.who(&house.login("ada", PASSWORD).unwrap());
    let wrong = || password("guess");
    let World { authority, source, .. } = &house.world;
    let now = house.world.now();
    let refusals = [
        refused(house.change_password(&who, "guess", NEW_PASSWORD, false)),
        refused(house.ask_change(&who, "eve@example.org", "guess")),
        refused(answer(authority.delete_own(&who, wrong(), source, now))),
        refused(answer(authority.export_own(&who, wrong(), source, now)).map(drop)),
    ];
    assert!(refusals.iter().all(|refusal| *refusal == Refusal::PasswordWrong), "{refusals:?}");
    house.login("ada", PASSWORD).unwrap();
}

#[test]
fn a56_every_door_to_a_password_has_one_count() {
    let house = house(|_| {}).with_ada();
    let who = house.world.who(&house.login("ada", PASSWORD).unwrap());
    let World { authority, source, .. } = &house.world;
    let now = house.world.now();
    assert_eq!(refused(house.login("ada", "guess")), Refusal::CredentialsRejected);
    assert_eq!(refused(house.change_password(&who, "guess", NEW_PASSWORD, false)), Refusal::PasswordWrong);
    assert_eq!(refused(house.ask_change(&who, "eve@example.org", "guess")), Refusal::PasswordWrong);
    assert_eq!(refused(answer(authority.delete_own(&who, password("guess"), source, now))), Refusal::PasswordWrong);
    assert_eq!(
        refused(answer(authority.export_own(&who, password("guess"), source, now)).map(drop)),
        Refusal::PasswordWrong
    );
    assert!(matches!(refused(house.login("ada", PASSWORD)), Refusal::TooManyAttempts(_)), "the sixth");
    assert!(matches!(refused(house.change_password(&who, PASSWORD, NEW_PASSWORD, false)), Refusal::TooManyAttempts(_)));
}

#[test]
fn a57_whoever_is_locked_out_by_a_guesser_gets_in_by_a_reset() {
    let house = house(|rules| rules.mails_per_address = "1000/h".parse().unwrap()).with_ada();
    for _ in 0..200 {
        house.login("ada", "guess").unwrap_err();
        house.world.wait(900_000);
    }
    assert!(matches!(refused(house.login("ada", PASSWORD)), Refusal::TooManyAttempts(_)));
    house.forgot(ADDRESS).unwrap();
    let link = house.link("reset_password");
    house.reset(&link, NEW_PASSWORD).unwrap();
    house.login("ada", NEW_PASSWORD).unwrap();
}

#[test]
fn a50_an_unknown_address_gets_the_same_answer_and_leaves_nothing() {
    let house = house(|_| {}).with_ada();
    house.forgot("nobody@example.org").unwrap();
    let (waiting, count) = answer(house.world.authority.mails_waiting(10)).unwrap();
    assert_eq!(count, 1, "as much is written as for one that is known");
    assert!(!format!("{waiting:?}").contains("nobody@example.org"), "but not the address");
    assert_eq!(house.post(), []);
    assert_eq!(answer(house.world.authority.mails_waiting(10)).unwrap().1, 0);
}

#[test]
fn a61_a_reset_goes_to_the_address_that_is_stored_and_no_other_letter_is_that_letter() {
    let house = house(|_| {}).with_ada();
    house.forgot("ADA@example.ORG").unwrap();
    assert_eq!(house.post().first().map(|(_, to, _)| to.as_str()), Some(ADDRESS));
    house.make(NewAccount {
        email: Some(email("mike@kilo.example")),
        email_confirmed: true,
        ..NewAccount::named("mike".parse().unwrap())
    });
    // U+212A and U+0131 are k and i in another case, to whoever folds them.
    for other in ["mike@\u{212a}ilo.example", "m\u{131}ke@kilo.example", "mike@kılo.example"] {
        house.forgot(other).unwrap();
        assert_eq!(house.post(), [], "{other}");
    }
}

#[test]
fn a57_accounts_made_with_somebodys_address_push_theirs_out_of_no_reset() {
    let house = house(|rules| rules.mails_per_source = "1000/h".parse().unwrap());
    let with = |name: &str, confirmed| {
        let named = NewAccount::named(name.parse().unwrap());
        house.make(NewAccount { email: Some(email(ADDRESS)), email_confirmed: confirmed, ..named });
        house.world.wait(1);
    };
    for n in 0..30 {
        with(&format!("aaa{n}"), false);
    }
    with("ada", false);
    house.forgot(ADDRESS).unwrap();
    let links: Vec<String> = house.post().into_iter().filter_map(|(.., link)| link).collect();
    assert_eq!(links.len(), 5, "so many and no more");
    let reached =
        links.iter().any(|link| house.reset(link, NEW_PASSWORD).is_ok() && house.login("ada", NEW_PASSWORD).is_ok());
    assert!(reached, "the last one that was made is among them");
    // Once one of them has proved it, the others are none of its business.
    house.world.wait(3_600_000);
    house.post();
    house.forgot(ADDRESS).unwrap();
    assert_eq!(house.post().into_iter().filter(|(kind, ..)| *kind == "reset_password").count(), 1);
}

#[test]
fn only_so_many_mails_go_to_one_mailbox_and_are_asked_for_from_one_place() {
    let house = house(|_| {}).with_ada();
    for _ in 0..5 {
        house.forgot(ADDRESS).unwrap();
    }
    assert!(matches!(refused(house.forgot("ADA@EXAMPLE.ORG")), Refusal::LimitHit(Limit::MailsToAddress, _)));
    for nobody in 0..14 {
        house.forgot(&format!("n{nobody}@example.org")).unwrap();
    }
    assert!(matches!(refused(house.forgot("last@example.org")), Refusal::LimitHit(Limit::Mails, _)));
    // Whoever spent them in somebody's name has filled their mailbox with links that work.
    assert_eq!(house.post().iter().filter(|(.., link)| link.is_some()).count(), 5);
}

#[test]
fn f35_a_mail_that_cannot_be_sent_is_tried_again_later_and_given_up_in_the_end() {
    let house = house(|rules| rules.reset_within = life("10m")).with_ada();
    *house.postbox.fails.lock().unwrap() = Some(true);
    house.forgot(ADDRESS).unwrap();
    let deliver = || -> Vec<Delivery> {
        let mails = answer(house.world.authority.claim_mails(16, house.world.now())).unwrap();
        mails.into_iter().map(|mail| answer(house.world.authority.deliver(mail, house.world.now())).unwrap()).collect()
    };
    let mut tries = Vec::new();
    for second in 0..600 {
        tries.extend(deliver().into_iter().map(|delivery| (second, delivery)));
        house.world.wait(1_000);
    }
    let expected: Vec<(i32, Delivery)> =
        [0, 30, 90, 210, 450].into_iter().map(|second| (second, Delivery::Postponed)).collect();
    assert_eq!(tries, expected);
    let (waiting, _) = answer(house.world.authority.mails_waiting(1)).unwrap();
    assert_eq!(waiting[0].last_error.as_deref(), Some("the server is away"));
    house.world.happened();
    assert!(deliver().is_empty(), "its time is over");
    let lost = Event::MailLost { subject: house.account().subject, kind: "reset_password", why: MailLoss::Expired };
    assert_eq!(house.world.happened(), [lost]);
    assert_eq!(answer(house.world.authority.mails_waiting(1)).unwrap().1, 0);

    // What never will be sent is given up at once.
    *house.postbox.fails.lock().unwrap() = Some(false);
    house.forgot(ADDRESS).unwrap();
    assert_eq!(deliver(), [Delivery::GivenUp]);
    *house.postbox.fails.lock().unwrap() = None;
    house.world.wait(3_600_000);
    assert_eq!(house.post(), []);
}

#[test]
fn f35_a_mail_whose_sender_died_is_sent_by_the_next() {
    let house = house(|_| {}).with_ada();
    house.forgot(ADDRESS).unwrap();
    let claimed = answer(house.world.authority.claim_mails(16, house.world.now())).unwrap();
    assert_eq!(claimed.len(), 1);
    drop(claimed);
    assert_eq!(house.post(), [], "it is somebody's for two minutes");
    house.world.wait(120_000);
    let link = house.link("reset_password");
    house.reset(&link, NEW_PASSWORD).unwrap();
}

#[test]
fn a_login_from_another_device_is_told_and_one_that_is_known_is_not() {
    let house = house(|_| {}).with_ada();
    let login_from = |agent: &str| {
        let source = Source { user_agent: UserAgent::cut(agent.as_bytes()), ..house.world.source.clone() };
        let login = counterfoil_core::Login {
            username: "ada".to_owned(),
            password: password(PASSWORD),
            client: None,
            name: None,
        };
        answer(house.world.authority.login(login, &source, house.world.now())).unwrap();
        answer(house.world.authority.notice_devices(house.world.now())).unwrap();
        house.post().into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>()
    };
    assert_eq!(login_from("Browser/1.0 (One)"), [""; 0], "the first one ever");
    assert_eq!(login_from("Browser/2.17.4 (One)"), [""; 0], "a new version");
    assert_eq!(login_from("Other/1.0"), ["new_device"]);
    assert_eq!(login_from("Other/1.0"), [""; 0]);
}

#[test]
fn owners_are_told_once_of_keys_that_will_expire() {
    let house = house(|rules| rules.notices.expiring = Some(life("7d"))).with_ada();
    let World { authority, .. } = &house.world;
    let day = 86_400_000;
    let token = house.login("ada", PASSWORD).unwrap();
    let key = counterfoil_core::authority::NewKey {
        expires_at: Some(house.world.now().wall.plus_millis(20 * day)),
        ..any_key()
    };
    house.world.key(&token, key).unwrap();
    let remind = || {
        answer(authority.remind(house.world.now())).unwrap();
        house.post().into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>()
    };
    let mut told = Vec::new();
    for passed in 0..30 {
        told.extend(remind().into_iter().map(|kind| (passed, kind)));
        assert_eq!(remind(), [""; 0]);
        house.world.wait(day);
    }
    assert_eq!(told, [(14, "token_expiring")], "when less than seven days are left, and login tokens are not told of");
}

#[test]
fn r18_staff_start_a_reset_and_choose_no_password() {
    let house = house(|_| {}).with_ada();
    let subject = house.account().subject;
    let World { authority, .. } = &house.world;
    let (by, now) = (house.world.by(), house.world.now());
    answer(authority.start_reset(&subject, &by, now)).unwrap();
    let link = house.link("reset_password");
    house.reset(&link, NEW_PASSWORD).unwrap();
    house.login("ada", NEW_PASSWORD).unwrap();
    let bob = house.world.user("bob");
    assert!(matches!(refused(answer(authority.start_reset(&bob.subject, &by, now))), Refusal::Invalid(_)));
    assert!(matches!(refused(answer(authority.send_confirmation(&subject, &by, now))), Refusal::Invalid(_)));
}

#[test]
fn a_new_password_is_judged_and_the_link_stays_for_another_try() {
    let house = house(|_| {}).with_ada();
    house.forgot(ADDRESS).unwrap();
    let link = house.link("reset_password");
    for weak in ["short", "password1234567", "ada@example.org"] {
        assert!(matches!(refused(house.reset(&link, weak)), Refusal::PasswordWeak { .. }), "{weak}");
    }
    house.reset(&link, NEW_PASSWORD).unwrap();
    let who = house.world.who(&house.login("ada", NEW_PASSWORD).unwrap());
    let weak = refused(house.change_password(&who, NEW_PASSWORD, "short", false));
    assert!(matches!(weak, Refusal::PasswordWeak { field: "new_password", .. }), "{weak:?}");
    house.login("ada", NEW_PASSWORD).unwrap();
}

#[test]
fn a_deleted_account_takes_its_links_along() {
    let house = house(|_| {}).with_ada();
    let token = house.login("ada", PASSWORD).unwrap();
    house.forgot(ADDRESS).unwrap();
    let link = house.link("reset_password");
    house.forgot(ADDRESS).unwrap();
    let World { authority, source, .. } = &house.world;
    let who = house.world.who(&token);
    let export = answer(authority.export_own(&who, password(PASSWORD), source, house.world.now())).unwrap();
    assert_eq!(export.account.email, Some(email(ADDRESS)));
    answer(authority.delete_own(&who, password(PASSWORD), source, house.world.now())).unwrap();
    refused(house.world.authenticate(&token));
    assert_eq!(refused(house.reset(&link, NEW_PASSWORD)), Refusal::LinkDead);
    assert_eq!(house.post(), []);
}

#[test]
fn where_no_mail_is_sent_what_needs_it_is_not_offered() {
    let world = World::with(|parts| parts.settings.accounts.registration = Registering::Anybody);
    let house = House { world, postbox: Arc::default() }.with_ada();
    assert_eq!(refused(house.forgot(ADDRESS)), Refusal::NoMail);
    assert_eq!(refused(house.register(NewRegistration { username: "eve".parse().unwrap(), ..ada() })), Refusal::NoMail);
    let who = house.world.who(&house.login("ada", PASSWORD).unwrap());
    house.change_password(&who, PASSWORD, NEW_PASSWORD, false).unwrap();
}

#[test]
fn r31_whatever_happens_to_an_account_by_mail_is_in_the_audit_log() {
    let house = strict();
    house.register(ada()).unwrap();
    house.confirm(&house.link("confirm_registration"), PASSWORD).unwrap();
    let who = house.world.who(&house.login("ada", PASSWORD).unwrap());
    house.ask_change(&who, "new@example.org", "guess").unwrap_err();
    house.ask_change(&who, "new@example.org", PASSWORD).unwrap();
    let told = house.post();
    let link = told.iter().find_map(|(kind, _, link)| link.clone().filter(|_| *kind == "confirm_new_address")).unwrap();
    house.confirm(&link, PASSWORD).unwrap();
    house.change_password(&who, PASSWORD, NEW_PASSWORD, false).unwrap();
    let told = house.post();
    let undo = told.iter().find_map(|(kind, _, link)| link.clone().filter(|_| *kind == "address_changed")).unwrap();
    let World { authority, source, .. } = &house.world;
    answer(authority.undo_email_change(&undo, source, house.world.now())).unwrap();
    house.post();
    house.forgot(ADDRESS).unwrap();
    house.reset(&house.link("reset_password"), PASSWORD).unwrap();
    let named = NewAccount::named("bob".parse().unwrap());
    let bob = house.make(NewAccount { email: Some(email("bob@example.org")), ..named });
    answer(authority.send_confirmation(&bob.subject, &house.world.by(), house.world.now())).unwrap();

    let query = counterfoil_core::store::AuditQuery { limit: 100, ..Default::default() };
    let page = answer(authority.audit(&query, house.world.now())).unwrap();
    let written: Vec<&str> = page.entries.iter().map(|numbered| numbered.entry.event.as_ref()).collect();
    for name in [
        "registration_asked",
        "registered",
        "email_confirmed",
        "password_refused",
        "email_change_asked",
        "email_changed",
        "password_changed",
        "email_change_undone",
        "reset_asked",
        "password_reset",
        "confirmation_asked",
    ] {
        assert!(written.contains(&name), "{name}: {written:?}");
    }
    let told = format!("{:?}", page.entries);
    assert!(!told.contains("cfl_") && !told.contains(PASSWORD) && !told.contains(NEW_PASSWORD));
}

#[test]
fn nobody_waits_for_a_link_to_a_page_that_there_is_not() {
    let confirming = |rules: &mut AccountRules| {
        let confirm = Some("https://app.example.org/#confirm={token}".parse().unwrap());
        rules.links = Links { confirm, ..Links::default() };
    };
    let house = house(confirming).with_ada();
    assert_eq!(refused(house.forgot(ADDRESS)), Refusal::NoMail);
    assert_eq!(refused(house.forgot("nobody@example.org")), Refusal::NoMail);
    let who = house.world.who(&house.login("ada", PASSWORD).unwrap());
    house.ask_change(&who, "new@example.org", PASSWORD).unwrap();
    let url_of = |kind: &str| {
        for mail in answer(house.world.authority.claim_mails(16, house.world.now())).unwrap() {
            answer(house.world.authority.deliver(mail, house.world.now())).unwrap();
        }
        let letters = house.postbox.letters.lock().unwrap();
        let letter = letters.iter().find(|letter| letter.kind.name() == kind).unwrap();
        letter.url.as_ref().map(|url| url.expose().to_owned())
    };
    let url = url_of("confirm_new_address").unwrap();
    house.confirm(url.split_once('=').unwrap().1, PASSWORD).unwrap();
    assert_eq!(url_of("address_changed"), None, "it is told all the same");
}

#[test]
fn a62_whoever_registers_is_taken_for_nobody_else() {
    let house = house(|rules| rules.email = EmailRule::Optional).with_ada();
    let named = |name: &str| NewRegistration { username: name.parse().unwrap(), email: None, ..ada() };
    for alike in ["Ada", "аdа", "ａｄａ"] {
        let refusal = refused(house.register(named(alike)));
        assert!(matches!(refusal, Refusal::UsernameTaken | Refusal::Invalid(_)), "{alike}: {refusal:?}");
    }
    house.make(NewAccount::named("сосо".parse().unwrap()));
    assert_eq!(refused(house.register(named("coco"))), Refusal::UsernameTaken, "of one script each");
    for bad in ["a\u{200b}da", "bоb", "<b>", "eve@example.org"] {
        let Refusal::Invalid(invalid) = refused(house.register(named(bad))) else { panic!("{bad:?} was taken") };
        assert_eq!(invalid.field, "username", "{bad:?}");
    }
    house.register(named("bob")).unwrap();
}

#[test]
fn a62_a_name_that_looks_taken_is_said_so_before_anybody_proves_an_address() {
    let house = strict();
    house.make(NewAccount::named("сосо".parse().unwrap()));
    let alike = NewRegistration { username: "coco".parse().unwrap(), ..ada() };
    assert_eq!(refused(house.register(alike)), Refusal::UsernameTaken);
    // Made meanwhile, it is said before the link is spent.
    let bob = NewRegistration { username: "scope".parse().unwrap(), ..ada() };
    house.register(bob).unwrap();
    let link = house.link("confirm_registration");
    let lookalike = house.make(NewAccount::named("ѕсоре".parse().unwrap()));
    assert_eq!(refused(house.confirm(&link, PASSWORD)), Refusal::UsernameTaken);
    let World { authority, .. } = &house.world;
    answer(authority.delete_user(&lookalike.subject, &house.world.by(), house.world.now())).unwrap();
    house.confirm(&link, PASSWORD).unwrap();
}

#[test]
fn r36_an_address_is_a_name_only_where_it_is_proved_first() {
    let with_address = || NewRegistration { username: "bob@example.org".parse().unwrap(), ..ada() };
    let own = || NewRegistration { username: ADDRESS.parse().unwrap(), ..ada() };
    let lax = house(|_| ());
    for registration in [with_address(), own()] {
        let refusal = refused(lax.register(registration));
        assert!(matches!(refusal, Refusal::Invalid(ref invalid) if invalid.field == "username"), "{refusal:?}");
    }
    let strict = strict();
    assert!(matches!(refused(strict.register(with_address())), Refusal::Invalid(_)));
    strict.register(own()).unwrap();
    let account = strict.confirm(&strict.link("confirm_registration"), PASSWORD).unwrap();
    assert_eq!(account.username.as_str(), ADDRESS);
}

#[test]
fn a65_a_link_leads_on_to_a_listed_page_or_nowhere() {
    let house = house(|rules| {
        rules.unconfirmed = Unconfirmed::Waits;
        rules.redirects = Redirects::new(["https://app.example.org/welcome"]).unwrap();
    });
    let leading_to = |next: &str| NewRegistration { next: Some(next.to_owned()), ..ada() };
    for astray in
        ["//evil.example", "https://app.example.org/", "https://app.example.org/welcome@evil.example", "/welcome"]
    {
        let Refusal::Invalid(invalid) = refused(house.register(leading_to(astray))) else { panic!("{astray}") };
        assert_eq!(invalid.field, "next", "{astray}");
    }
    house.register(leading_to("https://APP.example.org:443/welcome")).unwrap();
    let secret = house.link("confirm_registration");
    let World { authority, source, .. } = &house.world;
    let proof = Proof::Password(password(PASSWORD));
    let confirmed = answer(authority.confirm_email(&secret, proof, source, house.world.now())).unwrap();
    assert_eq!(confirmed.next.as_deref(), Some("https://app.example.org/welcome"));
}
