//! Users, clients and tokens as a scenario wants them: [`fill`]. They come in by the door that an import uses.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use counterfoil::{
    Account, ClientName, ClientOrder, Counterfoil, EncodedPassword, Lifetime, MemoryStore, Metadata, Now, Policy,
    Reissue, Role, Source, SubjectId, Timestamp,
};
use counterfoil_core::import::{
    AccountOutcome, ImportedAccount, ImportedLink, ImportedSecret, ImportedToken, Importer, SourceKey, TokenOutcome,
};
use counterfoil_core::{By, Kind, SecretToken};
use counterfoil_http::Mounted;
use sha2::{Digest, Sha512};

use super::settings::Django;
use super::{Unable, Wanted, told};
use crate::cases::{Client, Token, User};

/// Fills an empty store.
pub(super) async fn fill(
    counterfoil: &Counterfoil,
    store: Arc<MemoryStore>,
    mounted: &Mounted,
    wanted: Wanted<'_>,
    django: &Django,
) -> Result<(), Unable> {
    let now = counterfoil.clock().now();
    let importer = Importer::new(Arc::clone(counterfoil.authority()), store);
    let accounts = wanted.setup.users.iter().enumerate().map(|(at, user)| {
        let locked = !django.no_locks && wanted.setup.locks.contains(&user.username);
        account(at, user, wanted.passwords.encoded(user.password.as_deref()), locked, now)
    });
    let accounts: Vec<ImportedAccount> = accounts.collect::<Result<_, _>>()?;
    for (outcome, user) in importer.accounts(&accounts, now).await.map_err(told)?.iter().zip(&wanted.setup.users) {
        if *outcome != AccountOutcome::Imported {
            return Err(format!("the user {:?} could not be made: {outcome:?}", user.username));
        }
    }
    for client in &wanted.setup.clients {
        let order = order(client)?;
        counterfoil.authority().create_client(order, &By::operator(), now).await.map_err(told)?;
    }
    for (at, token) in wanted.setup.tokens.iter().enumerate() {
        let elsewhere = token.profiles.as_ref().is_some_and(|all| !all.iter().any(|it| it == wanted.profile));
        if !elsewhere {
            bring(&importer, mounted, wanted, at, token, now)
                .await
                .map_err(|why| format!("token {}: {why}", token.label))?;
        }
    }
    Ok(())
}

fn key(table: &str, row: &str) -> SourceKey {
    SourceKey::of("conformance", table, row.as_bytes())
}

/// Numbered from 1 in the order of the setup, as the packages number them.
fn subject(at: usize) -> Result<SubjectId, Unable> {
    (at + 1).to_string().parse().map_err(told)
}

fn account(
    at: usize,
    user: &User,
    password: EncodedPassword,
    rotation_locked: bool,
    now: Now,
) -> Result<ImportedAccount, Unable> {
    let role = match (user.superuser, user.staff) {
        (true, _) => Role::Admin,
        (false, true) => Role::Staff,
        (false, false) => Role::User,
    };
    let email = user.email.as_deref().filter(|email| !email.is_empty());
    let account = Account {
        subject: subject(at)?,
        username: user.username.parse().map_err(told)?,
        email: email.map(|email| email.parse().map_err(told)).transpose()?,
        email_confirmed_at: None,
        first_name: user.first_name.clone(),
        last_name: user.last_name.clone(),
        attributes: Metadata::default(),
        locale: None,
        active: user.active,
        role,
        created_at: now.wall,
        last_login_at: None,
        rotation_locked,
    };
    Ok(ImportedAccount { key: key("user", &user.username), account, password })
}

fn order(client: &Client) -> Result<ClientOrder, Unable> {
    let name: ClientName = client.name.parse().map_err(told)?;
    // A client whose tokens are dead at birth has the shortest life that there is.
    let ttl = Lifetime::from_seconds(duration(&client.token_ttl)?.max(1)).map_err(told)?;
    let throttle = match client.throttle_rate.as_str() {
        "" => None,
        rate => Some(rate.parse().map_err(told)?),
    };
    let policy = Policy { ttl: Some(ttl), reissue: Reissue::Same, throttle, ..Policy::default() };
    Ok(ClientOrder { policy, ..ClientOrder::named(name) })
}

/// `30 00:00:00` in seconds.
fn duration(text: &str) -> Result<u64, Unable> {
    let unknown = || format!("what is the duration {text:?}?");
    let (days, clock) = text.split_once(' ').unwrap_or(("0", text));
    let mut seconds = days.parse::<u64>().map_err(|_| unknown())? * 24;
    let fields: Vec<&str> = clock.split(':').collect();
    let [hours, minutes, rest] = fields.as_slice() else { return Err(unknown()) };
    seconds += hours.parse::<u64>().map_err(|_| unknown())?;
    seconds = seconds * 60 + minutes.parse::<u64>().map_err(|_| unknown())?;
    Ok(seconds * 60 + rest.parse::<u64>().map_err(|_| unknown())?)
}

async fn bring(
    importer: &Importer,
    mounted: &Mounted,
    wanted: Wanted<'_>,
    at: usize,
    token: &Token,
    now: Now,
) -> Result<(), Unable> {
    let owner = wanted.setup.users.iter().position(|user| user.username == token.user);
    let owner = subject(owner.ok_or_else(|| format!("there is no user {:?}", token.user))?)?;
    let issued_at = offset(now.wall, token.created_offset.unwrap_or(0))?;
    if let Some(email) = &token.email {
        let email = email.parse().map_err(told)?;
        let expires_at = offset(issued_at, confirmed_within(wanted)?)?;
        let link = ImportedLink { subject: owner, email, expires_at };
        importer.confirmation_link(&sha512(&decoded(&token.text)?), link, now).await.map_err(told)?;
        return Ok(());
    }
    let client = match (&token.client, mounted.dialect().client()) {
        (Some(named), _) => named.parse().map_err(told)?,
        (None, Some(order)) => order.name.clone(),
        (None, None) => return Err("it has no client".to_owned()),
    };
    let lifetime = mounted.dialect().client().and_then(|order| order.policy.ttl);
    let expires_at = match (token.expiry_offset, token.ttl) {
        (Some(seconds), _) | (None, Some(seconds)) => Some(offset(now.wall, seconds)?),
        // The package keeps when it was made, and its settings say for how long it is good.
        (None, None) if wanted.package == "restauthtoken" => {
            lifetime.map(|lifetime| offset(issued_at, i64::try_from(lifetime.seconds()).map_err(told)?)).transpose()?
        }
        (None, None) => None,
    };
    let imported = ImportedToken {
        key: key("token", &token.label),
        number: u64::try_from(at + 1).ok(),
        kind: Kind::Login,
        subject: owner,
        client,
        name: token.name.as_deref().and_then(counterfoil::TokenName::cut),
        metadata: Metadata::default(),
        issued_at,
        expires_at,
        secret: secret(wanted.package, &token.text)?,
        source: Source::default(),
        last_seen: None,
    };
    // One that has expired is brought when it was made.
    let dead = expires_at.is_some_and(|end| end <= now.wall);
    let when = if dead { Now { wall: issued_at, ..now } } else { now };
    match importer.tokens(vec![imported], when).await.map_err(told)?.as_slice() {
        [TokenOutcome::Imported { .. }] => Ok(()),
        others => Err(format!("it could not be brought: {others:?}")),
    }
}

fn offset(from: Timestamp, seconds: i64) -> Result<Timestamp, Unable> {
    Ok(Timestamp::from_millis(from.millis() + seconds * 1_000))
}

/// Seconds.
fn confirmed_within(wanted: Wanted<'_>) -> Result<i64, Unable> {
    let settings = super::settings::of_profile(wanted)?.for_dialect;
    let validity = settings.get("REGISTRATION_EMAIL_CONFIRM_TOKEN_VALIDITY").and_then(serde_json::Value::as_i64);
    Ok(validity.unwrap_or(86_400))
}

/// As the package keeps it.
fn secret(package: &str, text: &str) -> Result<ImportedSecret, Unable> {
    Ok(match package {
        "knox" => ImportedSecret::Knox(sha512(text.as_bytes())),
        "restauthtoken" => ImportedSecret::RestAuthtoken(sha512(&decoded(text)?)),
        "djforge" => {
            let (_, hash) = text.split_once(":hash:").ok_or("no token of djforge")?;
            ImportedSecret::Djforge(hash.to_owned())
        }
        _ => ImportedSecret::Text(SecretToken::from_text(text)),
    })
}

fn sha512(bytes: &[u8]) -> [u8; 64] {
    Sha512::digest(bytes).into()
}

fn decoded(text: &str) -> Result<Vec<u8>, Unable> {
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&URL_SAFE, lenient).decode(text).map_err(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_django_writes_them() {
        assert_eq!(duration("30 00:00:01"), Ok(30 * 86_400 + 1));
        assert_eq!(duration("12:00:00"), Ok(43_200));
        assert!(duration("30 days").is_err());
    }
}
