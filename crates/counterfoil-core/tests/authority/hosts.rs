//! A service with users of its own, with or without a table of accounts that we can read.

use counterfoil_core::account::AccountChange;
use counterfoil_core::authority::TokenOrder;
use counterfoil_core::event::RevokedBy;
use counterfoil_core::{AccountStore as _, By, Event, Refusal, SubjectId, SubjectState, TokenStore as _};

use crate::world::{World, answer, any_key, refused, text};

fn subject() -> SubjectId {
    "user:42".parse().unwrap()
}

fn ordered(world: &World) -> String {
    text(&answer(world.authority.issue(TokenOrder::from(subject()), &world.by(), world.now())).unwrap())
}

#[test]
fn the_host_ends_a_token_by_its_text_and_what_is_none_is_fine() {
    let world = World::new();
    let (lost, kept) = (ordered(&world), ordered(&world));
    world.happened();
    for _ in 0..2 {
        answer(world.authority.revoke_presented(&lost, &world.by(), world.now())).unwrap();
    }
    let told = world.happened();
    assert!(matches!(&told[..], [Event::TokenRevoked(_, RevokedBy::Operator)]), "once: {told:?}");
    assert_eq!(refused(world.authenticate(&lost)), Refusal::TokenRevoked);
    for none in ["", "cf_", "never issued"] {
        answer(world.authority.revoke_presented(none, &world.by(), world.now())).unwrap();
    }
    world.authenticate(&kept).unwrap();
}

#[test]
fn a05_a_subject_without_an_account_is_disabled_enabled_and_buried_by_the_hosts_word() {
    let world = World::new();
    let token = ordered(&world);
    let key = world.key(&token, any_key()).unwrap();
    let say = |state| answer(world.authority.set_subject_state(&subject(), state, &world.by(), world.now()));
    say(SubjectState::Disabled).unwrap();
    for text in [&token, &key] {
        assert_eq!(refused(world.authenticate(text)), Refusal::SubjectInactive);
    }
    let again = answer(world.authority.issue(TokenOrder::login(subject()), &world.by(), world.now()));
    assert_eq!(refused(again), Refusal::SubjectInactive);
    say(SubjectState::Active).unwrap();
    world.authenticate(&token).unwrap();

    say(SubjectState::Buried).unwrap();
    assert_eq!(refused(say(SubjectState::Active)), Refusal::SubjectInactive, "for good");
    for text in [&token, &key] {
        assert_eq!(refused(world.authenticate(text)), Refusal::SubjectInactive);
    }
}

#[test]
fn a05_of_a_user_whom_the_host_has_removed_nothing_is_taken_for_granted() {
    let world = World::with_ada();
    let token = world.login("ada");
    let ada = world.who(&token).subject;
    // From the host's table, past the authority: whether that was all there was of this user is the host's to say.
    assert!(answer(world.store.delete(&ada)).unwrap());
    let said = answer(world.authority.subject_changed(&ada, &By::operator(), world.now()));
    assert_eq!(refused(said), Refusal::NotFound);
    answer(world.authority.set_subject_state(&ada, SubjectState::Buried, &world.by(), world.now())).unwrap();
    assert_eq!(refused(world.authenticate(&token)), Refusal::SubjectInactive);
}

#[test]
fn a05_what_the_host_changes_in_its_own_table_holds_from_the_moment_it_says_so() {
    let world = World::with_ada();
    let token = world.login("ada");
    let ada = world.who(&token).subject;
    // The host's own statement, past the authority.
    let set = |active| answer(world.store.change(&ada, &[AccountChange::Active(active)])).unwrap().unwrap();
    let say = || answer(world.authority.subject_changed(&ada, &By::operator(), world.now())).unwrap();
    for _ in 0..2 {
        set(false);
        say();
        assert_eq!(refused(world.authenticate(&token)), Refusal::SubjectInactive);
        set(true);
        say();
        world.authenticate(&token).unwrap();
    }
    world.happened();
    say();
    assert_eq!(world.happened(), [Event::AccountChanged(ada.clone())], "nothing else has changed");

    // Neither an absent account nor a buried subject is brought back by it.
    answer(world.authority.delete_user(&ada, &world.by(), world.now())).unwrap();
    let said = answer(world.authority.subject_changed(&ada, &By::operator(), world.now()));
    assert_eq!(refused(said), Refusal::NotFound);
    assert_eq!(refused(world.authenticate(&token)), Refusal::SubjectInactive);
    assert_eq!(answer(world.store.subject(&ada)).unwrap().unwrap().state, SubjectState::Buried);
}
