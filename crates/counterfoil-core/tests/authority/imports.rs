//! What was brought from other systems, presented by those who have it.

use counterfoil_core::account::Account;
use counterfoil_core::authority::{Others, TokenOrder};
use counterfoil_core::client::Reissue;
use counterfoil_core::import::{
    AccountOutcome, ImportedAccount, ImportedSecret, ImportedToken, Importer, SourceKey, TokenOutcome,
};
use counterfoil_core::password::EncodedPassword;
use counterfoil_core::seal::KeyRing;
use counterfoil_core::secret::SecretToken;
use counterfoil_core::shape::TokenShape;
use counterfoil_core::token::Metadata;
use counterfoil_core::{Authority, ClientName, Error, Event, Kind, Policy, Refusal, Source, TokenName};
use sha2::{Digest, Sha512};

use crate::world::{World, answer, refused, text};

const HEX64: &str = "1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d";
/// 48 bytes in base64url.
const BASE64URL: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
/// Of djforge, with the hash of its first half as passlib made it.
const DJFORGE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:hash:$pbkdf2-sha256$29000$TMk5h/C.NyaEcM65dw7BuA$dvp/p5vj.OXVNC7XfPxwWVChmZ019D/quaQTkVZ5sP4";

struct Moving {
    world: World,
    importer: Importer,
}

impl Moving {
    fn with(change: impl FnOnce(&mut counterfoil_core::Parts)) -> Moving {
        let (world, importer) = World::importing(change);
        let moving = Moving { world, importer };
        let account = Account::named("7".parse().unwrap(), "ada".parse().unwrap(), moving.world.now().wall);
        let password = EncodedPassword::from_store("pbkdf2_sha256$1$salt$AA==");
        let ada = ImportedAccount { key: SourceKey::of("django", "auth_user", b"7"), account, password };
        let outcomes = answer(moving.importer.accounts(&[ada], moving.world.now())).unwrap();
        assert_eq!(outcomes, [AccountOutcome::Imported]);
        moving
    }

    fn new() -> Moving {
        Moving::with(|_| {})
    }

    fn token(&self, row: &str, secret: ImportedSecret) -> ImportedToken {
        ImportedToken {
            key: SourceKey::of("django", "tokens", row.as_bytes()),
            number: None,
            kind: Kind::Login,
            subject: "7".parse().unwrap(),
            client: ClientName::default_client(),
            name: TokenName::cut("phone"),
            metadata: Metadata::default(),
            issued_at: self.world.now().wall.minus_millis(86_400_000),
            expires_at: Some(self.world.now().wall.plus_millis(1_000)),
            secret,
            source: Source::default(),
            last_seen: None,
        }
    }

    fn bring(&self, token: ImportedToken) -> TokenOutcome {
        let outcomes = answer(self.importer.tokens(vec![token], self.world.now())).unwrap();
        let [outcome] = outcomes[..] else { panic!("{outcomes:?}") };
        outcome
    }

    fn presents(&self, text: &str) -> Result<String, Error> {
        self.world.authenticate(text).map(|who| who.subject.to_string())
    }
}

fn plain(text: &str) -> ImportedSecret {
    ImportedSecret::Text(SecretToken::from_text(text))
}

fn sha512(bytes: &[u8]) -> [u8; 64] {
    Sha512::digest(bytes).into()
}

/// A text, and what its package keeps of it.
type Shape = (&'static str, fn() -> ImportedSecret);

/// Each of the packages' shapes, as its package keeps it.
fn every_shape() -> [Shape; 4] {
    [
        (HEX64, || plain(HEX64)),
        ("0f8fad5b-d9cb-469f-a165-70867728950e", || {
            ImportedSecret::Knox(sha512(b"0f8fad5b-d9cb-469f-a165-70867728950e"))
        }),
        (BASE64URL, || ImportedSecret::RestAuthtoken(sha512(&[1; 48]))),
        (DJFORGE, || ImportedSecret::Djforge(DJFORGE.split_once(":hash:").unwrap().1.to_owned())),
    ]
}

#[test]
fn a_token_of_each_package_is_accepted_as_often_as_it_is_presented_and_until_its_end() {
    for (text, secret) in every_shape() {
        let moving = Moving::new();
        assert_eq!(refused(moving.presents(text)), Refusal::TokenUnknown, "{text}: before");
        assert!(matches!(moving.bring(moving.token("1", secret())), TokenOutcome::Imported { .. }), "{text}");
        for _ in 0..3 {
            assert_eq!(moving.presents(text).unwrap(), "7", "{text}");
        }
        moving.world.wait(1_000);
        assert_eq!(refused(moving.presents(text)), Refusal::TokenExpired, "{text}: at the instant of its expiry");
    }
}

#[test]
fn a07_an_imported_token_that_is_revoked_is_refused_at_once_before_its_first_use_and_after() {
    for (text, secret) in every_shape() {
        for uses in 0..3 {
            let moving = Moving::new();
            moving.bring(moving.token("1", secret()));
            for _ in 0..uses {
                moving.presents(text).unwrap();
            }
            let by = moving.world.by();
            answer(moving.world.authority.revoke_presented(text, &by, moving.world.now())).unwrap();
            assert!(matches!(refused(moving.presents(text)), Refusal::TokenRevoked | Refusal::TokenUnknown), "{text}");
            // Not even by bringing it again.
            assert!(matches!(moving.bring(moving.token("1", secret())), TokenOutcome::Known(_)), "{text}");
            assert!(moving.presents(text).is_err(), "{text}");
        }
    }
}

#[test]
fn a03_the_hash_in_a_text_is_looked_up_before_it_is_computed_and_opens_nothing_by_itself() {
    let moving = Moving::new();
    moving.bring(moving.token("1", every_shape()[3].1()));
    let (secret, hash) = DJFORGE.split_once(":hash:").unwrap();
    let dear = format!(
        "{secret}:hash:$pbkdf2-sha256$9999999$TMk5h/C.NyaEcM65dw7BuA$dvp/p5vj.OXVNC7XfPxwWVChmZ019D/quaQTkVZ5sP4"
    );
    let texts = [
        hash.to_owned(),
        format!(":hash:{hash}"),
        format!("{}:hash:{hash}", "b".repeat(40)),
        format!("{secret}:hash:{hash}:hash:{hash}"),
        format!("{secret}:HASH:{hash}"),
        secret.to_owned(),
        dear,
    ];
    for text in &texts {
        assert_eq!(refused(moving.presents(text)), Refusal::TokenUnknown, "{text}");
    }
    assert_eq!(moving.presents(DJFORGE).unwrap(), "7");
    for text in &texts {
        assert_eq!(refused(moving.presents(text)), Refusal::TokenUnknown, "{text}: once it is known");
    }
    let too_dear = ImportedSecret::Djforge(hash.replace("29000", "4294967295"));
    assert_eq!(moving.bring(moving.token("2", too_dear)), TokenOutcome::Unreadable);
}

#[test]
fn a02_one_token_has_one_spelling_also_where_its_package_knew_many() {
    let moving = Moving::new();
    moving.bring(moving.token("1", every_shape()[2].1()));
    for spelling in [format!("{BASE64URL}=="), format!("!{BASE64URL}"), BASE64URL.replacen('A', "A*", 1)] {
        assert_eq!(refused(moving.presents(&spelling)), Refusal::TokenUnknown, "{spelling}");
    }
    assert_eq!(moving.presents(BASE64URL).unwrap(), "7");
}

#[test]
fn a04_what_a_package_kept_is_no_token_here() {
    let moving = Moving::new();
    moving.bring(moving.token("1", ImportedSecret::Knox(sha512(b"text"))));
    let hex: String = sha512(b"text").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(refused(moving.presents(&hex)), Refusal::TokenUnknown);
    assert_eq!(moving.presents("text").unwrap(), "7");
}

#[test]
fn a_login_gives_the_imported_secret_again_where_the_client_says_so() {
    let moving = Moving::with(|parts| parts.ring = Some(KeyRing::generate(parts.entropy.as_ref()).unwrap()));
    let client = moving.world.client("web", Policy { reissue: Reissue::Same, ..Policy::default() });
    let token = ImportedToken { client: client.clone(), expires_at: None, ..moving.token("1", plain(HEX64)) };
    moving.bring(token);
    let subject = "7".parse().unwrap();
    let order = TokenOrder { client: Some(client), ..TokenOrder::login(subject) };
    let again = answer(moving.world.authority.issue(order, &moving.world.by(), moving.world.now())).unwrap();
    assert_eq!((text(&again).as_str(), again.repeated), (HEX64, true));
    assert_eq!(moving.presents(HEX64).unwrap(), "7");
}

#[test]
fn what_cannot_be_brought_is_said_and_nothing_else_suffers() {
    let moving = Moving::new();
    let batch = vec![
        moving.token("1", plain(HEX64)),
        ImportedToken { expires_at: Some(moving.world.now().wall), ..moving.token("2", plain("dead")) },
        ImportedToken { client: "nowhere".parse().unwrap(), ..moving.token("3", plain("lost")) },
        ImportedToken { subject: "8".parse().unwrap(), ..moving.token("4", plain("nobody's")) },
        moving.token("5", plain("")),
        moving.token("6", plain("ünïcode")),
        moving.token("7", plain(HEX64)),
        moving.token("8", plain("fine")),
    ];
    let outcomes = answer(moving.importer.tokens(batch, moving.world.now())).unwrap();
    assert!(
        matches!(outcomes[0], TokenOutcome::Imported { .. }) && matches!(outcomes[7], TokenOutcome::Imported { .. })
    );
    assert_eq!(
        outcomes[1..7],
        [
            TokenOutcome::Expired,
            TokenOutcome::ClientMissing,
            TokenOutcome::SubjectMissing,
            TokenOutcome::Unreadable,
            TokenOutcome::Unreadable,
            TokenOutcome::Taken
        ]
    );
    assert!(moving.presents("fine").is_ok() && moving.presents("dead").is_err());
}

#[test]
fn another_process_hears_of_imported_tokens_within_a_flush() {
    let moving = Moving::new();
    let beside = moving.world.another();
    moving.bring(moving.token("1", plain(HEX64)));
    let there = || answer(beside.authenticate(HEX64, &moving.world.source, moving.world.now()));
    assert_eq!(refused(there()), Refusal::TokenUnknown);
    answer(beside.flush(moving.world.now())).unwrap();
    assert_eq!(there().unwrap().subject.to_string(), "7");
}

#[test]
fn a_text_without_a_check_is_understood_at_once_where_its_shape_was_expected() {
    let moving = Moving::new();
    let (expecting, unaware) = (moving.world.another(), moving.world.another());
    for node in [&*moving.world.authority, &expecting] {
        node.expect_shape(&TokenShape::Uuid);
    }
    let order = TokenOrder::login("7".parse().unwrap());
    let (shape, by, now) = (TokenShape::Uuid, moving.world.by(), moving.world.now());
    let minted = answer(moving.world.authority.issue_as(order, shape, Others::AsPolicySays, &by, now)).unwrap();
    let uuid = text(&minted);
    let at = |node: &Authority| answer(node.authenticate(&uuid, &moving.world.source, moving.world.now()));
    assert_eq!(at(&moving.world.authority).unwrap().subject.as_str(), "7");
    assert_eq!(at(&expecting).unwrap().subject.as_str(), "7", "another node, which heard of none");
    assert_eq!(refused(at(&unaware)), Refusal::TokenUnknown, "a node without that dialect has to be told");
    answer(unaware.flush(moving.world.now())).unwrap();
    assert_eq!(at(&unaware).unwrap().subject.as_str(), "7");
}

#[test]
fn an_invented_text_without_a_check_costs_a_query_and_so_has_a_limit() {
    let moving = Moving::new();
    moving.world.authority.expect_shape(&TokenShape::Uuid);
    for _ in 0..60 {
        let unknown = moving.presents("7c9e6679-7425-40de-944b-e07fc1f90ae7");
        assert_eq!(refused(unknown), Refusal::TokenUnknown);
    }
    let limited = moving.presents("7c9e6679-7425-40de-944b-e07fc1f90ae7");
    assert!(matches!(refused(limited), Refusal::LimitHit(..)));
}

#[test]
fn r31_an_import_is_told_with_what_it_brought() {
    let moving = Moving::new();
    moving.world.happened();
    answer(moving.importer.tell(1, 2, &moving.world.by(), moving.world.now())).unwrap();
    assert!(matches!(moving.world.happened()[..], [Event::Imported { accounts: 1, tokens: 2 }]));
}
