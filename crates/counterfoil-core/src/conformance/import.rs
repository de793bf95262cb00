//! The clauses about what is brought over from other systems.

use super::{NOW, World, later, new_client, subject, wait};
use crate::ability::Abilities;
use crate::account::{Account, LoginName};
use crate::client::Policy;
use crate::import::{
    AccountOutcome, Brought, ImportStore, ImportedAccount, LedgerRow, SourceKey, TokenOutcome, TokenRow,
};
use crate::password::EncodedPassword;
use crate::secret::{Candidates, DigestScheme, TokenDigest};
use crate::store::{Bump, Changed, Issue, Presented, TokenFilter, TokenQuery};
use crate::subject::{Epoch, SubjectState};
use crate::token::{Kind, Metadata, Sighting, Source, Standing, TokenId, TokenName, UserAgent};

fn store(world: &World) -> &dyn ImportStore {
    world.stores.imports.as_ref()
}

fn digest(text: &str) -> TokenDigest {
    TokenDigest::of_text(text)
}

fn key(row: &str) -> SourceKey {
    SourceKey::of("django", "rows", row.as_bytes())
}

fn account(name: &str, username: &str) -> ImportedAccount {
    let account = Account::named(subject(name), username.parse().expect("a name"), NOW);
    ImportedAccount { key: key(name), account, password: EncodedPassword::from_store(format!("md5${name}$00")) }
}

fn row(world: &World, owner: &str, name: &str) -> TokenRow {
    TokenRow {
        key: key(name),
        id: TokenId::generate(NOW, &world.entropy).expect("chance"),
        number: None,
        kind: Kind::Login,
        subject: subject(owner),
        client: world.client.id,
        name: TokenName::cut("phone"),
        abilities: Abilities::everything(),
        metadata: Metadata::default(),
        issued_at: later(0).minus_millis(100_000),
        expires_at: Some(later(50_000)),
        digest: digest(name),
        scheme: DigestScheme::PlainText,
        sealed: None,
        source: Source { ip: Some([203, 0, 113, 9].into()), user_agent: UserAgent::cut(b"app/1") },
        last_seen: Some(Sighting { at: NOW, source: Source::default() }),
    }
}

fn import(world: &World, rows: &[TokenRow]) -> Vec<TokenOutcome> {
    wait(store(world).import_tokens(rows, NOW))
}

fn bring(world: &World, accounts: &[ImportedAccount]) -> Vec<AccountOutcome> {
    wait(store(world).import_accounts(accounts, NOW))
}

fn candidates(name: &str) -> Candidates {
    Candidates::Imported(vec![(DigestScheme::PlainText, digest(name)), (DigestScheme::Djforge, digest(name))])
}

pub(super) fn an_imported_token_is_found_with_all_its_facts(world: &World) {
    assert_eq!(bring(world, &[account("7", "ada")]), [AccountOutcome::Imported]);
    assert_eq!(wait(world.stores.tokens.imported()), []);
    let first = TokenRow { number: Some(41), ..row(world, "7", "one") };
    assert_eq!(import(world, std::slice::from_ref(&first)), [TokenOutcome::Imported { number: 41 }]);
    assert_eq!(wait(world.stores.tokens.imported()), [DigestScheme::PlainText]);
    let found = wait(world.stores.tokens.find(&candidates("one"))).expect("it is there");
    assert_eq!((found.id, &found.subject, found.presented), (first.id, &subject("7"), Presented::Current));
    assert_eq!(found.standing(later(49_999)), Standing::Live);
    assert_eq!(found.standing(later(50_000)), Standing::Expired);
    let token = wait(world.stores.tokens.token(first.id, None)).expect("it is there");
    assert_eq!((token.number, token.issued_at, token.expires_at), (41, first.issued_at, first.expires_at));
    assert_eq!((&token.name, &token.first_seen.source), (&first.name, &first.source));
    assert_eq!(token.first_seen.at, first.issued_at);
    assert_eq!(token.last_seen.map(|seen| seen.at), Some(NOW));
}

pub(super) fn numbers_are_kept_where_they_are_free_and_none_is_given_twice(world: &World) {
    bring(world, &[account("7", "ada")]);
    let rows = [
        TokenRow { number: Some(9), ..row(world, "7", "one") },
        TokenRow { number: Some(9), ..row(world, "7", "two") },
        TokenRow { number: Some(3), ..row(world, "7", "three") },
        row(world, "7", "four"),
    ];
    let numbers: Vec<u64> = import(world, &rows)
        .into_iter()
        .map(|outcome| match outcome {
            TokenOutcome::Imported { number } => number,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(numbers, [9, 10, 3, 11]);
    let issued = world.issue(&Issue { subject: subject("7"), ..world.order() });
    assert_eq!(issued.number, 12);
    let query = TokenQuery { filter: TokenFilter::of(subject("7")), limit: 10, ..TokenQuery::default() };
    let listed: Vec<u64> = wait(world.stores.tokens.list(&query)).iter().map(|token| token.number).collect();
    assert_eq!(listed, [3, 9, 10, 11, 12]);
}

pub(super) fn what_was_brought_is_not_brought_again_and_what_was_ended_stays_so(world: &World) {
    bring(world, &[account("7", "ada")]);
    let rows = [row(world, "7", "one"), row(world, "7", "two")];
    import(world, &rows);
    wait(world.stores.tokens.revoke(rows[0].id, None, None, NOW));
    let again: Vec<TokenRow> =
        ["one", "two"].map(|name| TokenRow { expires_at: Some(later(90_000)), ..row(world, "7", name) }).into();
    assert_eq!(import(world, &again), [TokenOutcome::Known(rows[0].id), TokenOutcome::Known(rows[1].id)]);
    let standing = |id| wait(world.stores.tokens.token(id, None)).expect("it is there");
    assert_eq!(standing(rows[0].id).standing(NOW), Standing::Revoked);
    assert_eq!(standing(rows[0].id).expires_at, Some(later(50_000)));
    assert_eq!(standing(rows[1].id).expires_at, Some(later(90_000)), "where the source has moved it on");
    let sooner = TokenRow { expires_at: Some(later(10)), ..row(world, "7", "two") };
    import(world, &[sooner]);
    assert_eq!(standing(rows[1].id).expires_at, Some(later(90_000)), "and never back");
    let told = wait(store(world).ledger(None, 10));
    let there = told.iter().find(|row| row.key == key("two")).and_then(|row| row.expires_at);
    assert_eq!(there, Some(later(10)), "what the source said last");
    wait(world.stores.tokens.purge(later(1), 100));
    assert_eq!(import(world, &[row(world, "7", "one")]), [TokenOutcome::Gone]);
}

pub(super) fn an_imported_token_needs_its_subject_its_client_and_a_text_of_its_own(world: &World) {
    bring(world, &[account("7", "ada"), account("8", "bob")]);
    wait(world.stores.tokens.set_subject_state(&subject("8"), SubjectState::Buried, NOW));
    let gone = new_client("gone", Policy::default(), &world.entropy);
    wait(world.stores.tokens.create_client(&gone));
    wait(world.stores.tokens.delete_client(gone.id, NOW));
    let rows = [
        row(world, "7", "one"),
        TokenRow { key: key("other"), ..row(world, "7", "one") },
        row(world, "8", "two"),
        row(world, "9", "three"),
        TokenRow { client: gone.id, ..row(world, "7", "four") },
    ];
    let outcomes = import(world, &rows);
    assert!(matches!(outcomes[0], TokenOutcome::Imported { .. }), "{outcomes:?}");
    assert_eq!(
        outcomes[1..],
        [TokenOutcome::Taken, TokenOutcome::SubjectMissing, TokenOutcome::SubjectMissing, TokenOutcome::ClientMissing]
    );
    // What was not brought may come the next time.
    bring(world, &[account("9", "eve")]);
    assert!(matches!(import(world, &rows[3..4])[..], [TokenOutcome::Imported { .. }]));
}

pub(super) fn a_token_is_stamped_with_the_epochs_as_they_stand(world: &World) {
    bring(world, &[account("7", "ada")]);
    let bump = |keys_too| Bump::Subject { id: subject("7"), keys_too, keep: None };
    wait(world.stores.tokens.bump_epoch(&bump(false), NOW));
    wait(world.stores.tokens.bump_epoch(&Bump::Deployment, NOW));
    let one = row(world, "7", "one");
    import(world, std::slice::from_ref(&one));
    let token = wait(world.stores.tokens.token(one.id, None)).expect("it is there");
    assert_eq!((token.stamped.subject, token.stamped.deployment), (Epoch(1), Epoch(1)));
    assert_eq!(token.standing(NOW), Standing::Live);
    wait(world.stores.tokens.bump_epoch(&bump(false), NOW));
    let token = wait(world.stores.tokens.token(one.id, None)).expect("it is there");
    assert_eq!(token.standing(NOW), Standing::Revoked);
}

pub(super) fn an_adopted_secret_is_found_by_its_text_alone_and_its_change_is_logged(world: &World) {
    bring(world, &[account("7", "ada")]);
    let one = TokenRow { scheme: DigestScheme::Djforge, ..row(world, "7", "one") };
    import(world, std::slice::from_ref(&one));
    let head = wait(world.stores.tokens.changes(0, 1)).head;
    let was = (DigestScheme::Djforge, one.digest);
    let wrong = (DigestScheme::KnoxSha512, one.digest);
    let plain = digest("text");
    assert!(!wait(world.stores.tokens.adopt(one.id, wrong, &plain, NOW)));
    assert!(wait(world.stores.tokens.adopt(one.id, was, &plain, NOW)));
    assert!(!wait(world.stores.tokens.adopt(one.id, was, &digest("another"), NOW)), "once");
    assert!(wait(world.stores.tokens.find(&candidates("one"))).is_none());
    let found = wait(world.stores.tokens.find(&candidates("text"))).expect("it is there");
    assert_eq!((found.id, found.digest), (one.id, plain));
    let logged = wait(world.stores.tokens.changes(head, 10)).rows;
    assert!(
        matches!(&logged[..], [change] if matches!(&change.what, Changed::Tokens(digests) if digests.contains(&one.digest))),
        "{logged:?}"
    );
    let taken = TokenRow { scheme: DigestScheme::Djforge, ..row(world, "7", "two") };
    import(world, std::slice::from_ref(&taken));
    let adopted = world.stores.tokens.adopt(taken.id, (DigestScheme::Djforge, taken.digest), &plain, NOW);
    assert!(!wait(adopted), "another token has that text");
}

pub(super) fn accounts_are_brought_as_they_are_and_nobody_is_merged(world: &World) {
    let mut disabled = account("3", "eve");
    disabled.account.active = false;
    let accounts = [account("1", "ada"), account("2", "Ada"), disabled];
    assert_eq!(bring(world, &accounts), [AccountOutcome::Imported; 3]);
    for imported in &accounts {
        let found = wait(world.stores.accounts.account(&imported.account.subject)).expect("it is there");
        assert_eq!((&found.account, found.password.expose()), (&imported.account, imported.password.expose()));
    }
    let state = |id| wait(world.stores.tokens.subject(&subject(id))).expect("a subject").state;
    assert_eq!((state("1"), state("3")), (SubjectState::Active, SubjectState::Disabled));
    let named = wait(world.stores.accounts.named(&LoginName::new("Ada").expect("a name")));
    assert_eq!(named.len(), 2, "in any case");

    assert_eq!(bring(world, &accounts), [AccountOutcome::Known; 3]);
    let joined = |imported: &ImportedAccount| {
        let mut other = imported.clone();
        other.account.created_at = later(1);
        other
    };
    let renamed = ImportedAccount { key: key("1"), ..account("1", "zoe") };
    assert_eq!(bring(world, &[joined(&accounts[0]), renamed.clone()]), [AccountOutcome::Known; 2], "changed there");
    let stranger = joined(&renamed);
    assert_eq!(bring(world, &[stranger]), [AccountOutcome::SubjectTaken], "another project's user of that key");
    let same_name = ImportedAccount { key: key("x"), ..account("4", "ada") };
    let same_subject = ImportedAccount { key: key("y"), ..account("1", "zoe") };
    assert_eq!(bring(world, &[same_name, same_subject]), [AccountOutcome::NameTaken, AccountOutcome::SubjectTaken]);
    wait(world.stores.tokens.open_subject(&subject("5"), NOW));
    assert_eq!(bring(world, &[account("5", "kim")]), [AccountOutcome::SubjectTaken], "tokens stand for it already");
}

pub(super) fn a_password_changed_in_the_source_is_carried_over_where_it_was_not_changed_here(world: &World) {
    bring(world, &[account("1", "ada"), account("2", "bob"), account("3", "eve")]);
    let own = EncodedPassword::from_store("md5$own$00");
    assert!(wait(world.stores.accounts.set_password(&subject("2"), None, &own)));
    wait(world.stores.accounts.delete(&subject("3")));
    let changed = |id, name| {
        let password = EncodedPassword::from_store("md5$changed$00");
        ImportedAccount { password, ..account(id, name) }
    };
    let accounts = [changed("1", "ada"), changed("2", "bob"), changed("3", "eve")];
    let expected = [AccountOutcome::PasswordReplaced, AccountOutcome::PasswordKept, AccountOutcome::Deleted];
    assert_eq!(bring(world, &accounts), expected);
    let password = |id| wait(world.stores.accounts.account(&subject(id))).expect("an account").password;
    assert_eq!([password("1").expose(), password("2").expose()], ["md5$changed$00", "md5$own$00"]);
    assert_eq!(bring(world, &accounts)[..2], [AccountOutcome::Known; 2], "told once");
}

pub(super) fn the_ledger_is_read_in_pages_and_forgotten_in_batches(world: &World) {
    bring(world, &[account("7", "ada")]);
    let rows: Vec<TokenRow> = ["one", "two", "three"].map(|name| row(world, "7", name)).into();
    import(world, &rows);
    let mut read: Vec<LedgerRow> = Vec::new();
    loop {
        let page = wait(store(world).ledger(read.last().map(|row| row.key), 3));
        read.extend(page.clone());
        if page.len() < 3 {
            break;
        }
    }
    assert!(read.is_sorted_by_key(|row| row.key));
    let mut expected: Vec<LedgerRow> = rows
        .iter()
        .map(|row| LedgerRow { key: row.key, brought: Brought::Token(row.id), expires_at: row.expires_at })
        .collect();
    expected.push(LedgerRow { key: key("7"), brought: Brought::Account(subject("7")), expires_at: None });
    expected.sort_by_key(|row| row.key);
    assert_eq!(read, expected);
    assert_eq!(wait(store(world).forget_ledger(3)), 3);
    assert_eq!(wait(store(world).forget_ledger(3)), 1);
    assert_eq!(wait(store(world).forget_ledger(3)), 0);
    assert_eq!(import(world, &rows), [TokenOutcome::Taken; 3], "nothing is known of them but their texts");
}
