//! Tokens in Redis beside whatever keeps the rest.
#![cfg(all(feature = "redis", feature = "sqlite"))]

use std::error::Error as _;
use std::sync::Arc;

use counterfoil::redis::Address;
use counterfoil::tally::Disagreement;
use counterfoil::{
    Builder, By, Counterfoil, Error, HashingParams, Issued, Login, MemoryStore, NewAccount, Password, Refusal,
    Settings, Source, StartError, TokenOrder,
};
use counterfoil_lab::redis;

fn quick() -> Builder {
    let settings = Settings { hashing: HashingParams::insecure_for_tests(), ..Settings::default() };
    Counterfoil::builder().settings(settings)
}

fn address(url: &str) -> Address {
    url.parse().expect("an address")
}

async fn issue(counterfoil: &Counterfoil) -> Issued {
    let order = TokenOrder::login("ada".parse().expect("subject"));
    counterfoil.authority().issue(order, &By::operator(), counterfoil.clock().now()).await.expect("issued")
}

async fn is_accepted(counterfoil: &Counterfoil, issued: &Issued) -> bool {
    let text = issued.secret.expose();
    match counterfoil.authority().authenticate(text, &Source::default(), counterfoil.clock().now()).await {
        Ok(_) => true,
        Err(Error::Refused(Refusal::TokenRevoked | Refusal::TokenUnknown)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_token_is_in_redis_wherever_accounts_are() {
    let (database, directory) = (redis::database(), tempfile::tempdir().expect("directory"));
    let tokens = || address(database.url());
    let own: Arc<MemoryStore> = Arc::default();
    let beside: [Box<dyn Fn() -> Builder>; 4] = [
        Box::new(|| quick().sqlite(directory.path())),
        Box::new(|| quick().memory()),
        Box::new(|| quick().accounts(own.clone())),
        Box::new(|| quick().stores(own.clone(), own.clone())),
    ];
    let mut issued: Vec<Issued> = Vec::new();
    for builder in &beside {
        let counterfoil = builder().tokens_in_redis(tokens()).start().await.expect("started");
        assert!(counterfoil.importer().is_none(), "there is no one store to import into");
        for known in &issued {
            assert!(is_accepted(&counterfoil, known).await);
        }
        issued.push(issue(&counterfoil).await);
        counterfoil.shutdown().await;
    }
    let last = beside[0]().tokens_in_redis(tokens()).start().await.expect("started");
    last.authority().revoke_any(issued[1].token.id, &By::operator(), last.clock().now()).await.expect("revoked");
    assert!(!is_accepted(&last, &issued[1]).await && is_accepted(&last, &issued[3]).await);
    last.shutdown().await;
    let without = quick().accounts(own.clone()).start().await.expect_err("no store");
    assert!(matches!(without, StartError::NoStore), "{without}");
}

#[tokio::test]
async fn what_ends_an_account_is_never_written_where_its_tokens_are_not() {
    let (database, directory) = (redis::database(), tempfile::tempdir().expect("directory"));
    let (apart, together) = (directory.path().join("apart"), directory.path().join("together"));
    let tokens = || address(database.url());
    let furnished = async |builder: Builder| {
        let counterfoil = builder.start().await.expect("started");
        let password = || Password::new("correct horse battery staple").expect("short enough");
        let account = NewAccount::named("ada".parse().expect("a name"));
        let now = counterfoil.clock().now();
        counterfoil.authority().create_user(account, Some(password()), &By::operator(), now).await.expect("made");
        let login = Login { username: "ada".to_owned(), password: password(), client: None, name: None };
        counterfoil.authority().login(login, &Source::default(), now).await.expect("logged in");
        counterfoil.shutdown().await;
    };
    furnished(quick().sqlite(&apart).tokens_in_redis(tokens())).await;
    furnished(quick().sqlite(&together)).await;

    let refused = quick().sqlite(&apart).start().await.expect_err("without the tokens");
    assert!(matches!(refused, StartError::TokensElsewhere), "{refused}");
    let refused = quick().existing_sqlite(&together).tokens_in_redis(tokens()).open().await.expect_err("with others");
    assert!(matches!(refused, StartError::TokensHere), "{refused}");
    for (builder, place) in [(quick().tokens_in_redis(tokens()), &apart), (quick(), &together)] {
        builder.existing_sqlite(place).open().await.expect("as ever").shutdown().await;
    }
    let rewound = quick().sqlite(&apart).tokens_in_redis(tokens()).revoke_rewound().start().await;
    assert!(matches!(rewound, Err(StartError::TokensNotRewound)), "{rewound:?}");
}

#[tokio::test]
async fn a85_a_service_is_not_started_on_the_tokens_of_another() {
    let (ours, theirs) = (redis::database(), redis::database());
    let directory = tempfile::tempdir().expect("directory");
    let at = |name: &str, tokens: &redis::Database| {
        quick().sqlite(directory.path().join(name)).tokens_in_redis(address(tokens.url()))
    };
    let mut tallies = Vec::new();
    for (name, tokens) in [("ours", &ours), ("theirs", &theirs)] {
        let counterfoil = at(name, tokens).start().await.expect("both are new");
        tallies.push(counterfoil.tally().expect("one"));
        counterfoil.shutdown().await;
    }
    for refused in [
        at("ours", &theirs).start().await.expect_err("with users or without"),
        at("ours", &theirs).begin_tokens_anew().start().await.expect_err("it is not empty"),
        at("ours", &theirs).open().await.expect_err("by no command"),
    ] {
        let StartError::OtherTokens(Disagreement::Others { ours, theirs }) = refused else { panic!("{refused:?}") };
        assert_eq!(vec![ours.expect("one"), theirs], tallies);
    }
    let again = at("ours", &ours).start().await.expect("the right one");
    assert_eq!(again.tally(), tallies.first().copied());
    again.shutdown().await;
    let alone = quick().sqlite(directory.path().join("alone")).start().await.expect("tokens beside accounts");
    assert_eq!(alone.tally(), None);
    alone.shutdown().await;
}

#[tokio::test]
async fn without_its_redis_nothing_is_started_and_nothing_made() {
    let directory = tempfile::tempdir().expect("directory");
    let place = directory.path().join("data");
    let tokens = address("redis://app:hunter2@127.0.0.1:1");
    let refused = quick().sqlite(&place).tokens_in_redis(tokens).start().await.expect_err("nobody is there");
    assert!(matches!(refused, StartError::Redis(_)) && refused.source().is_some(), "{refused}");
    assert!(!format!("{refused:?}").contains("hunter2"));
    assert!(!place.exists());
}
