//! The rules of the clients that an import makes: [`of_package`], [`of_durin`].
//!
//! A mount of the dialect brings a package's own client to what its settings say when the server starts. What is made here holds until
//! then, so that tokens have a client to be on.

use std::num::NonZeroU32;

use counterfoil::{AtCap, Cap, ClientName, ClientOrder, Lifetime, Policy, Reissue, Renewal};

use crate::import::packages::{ClientRow, Unreadable};
use crate::import::project::Package;
use crate::import::report::Report;
use crate::import::settings::{Settings, Span};

/// Whether secrets can be kept sealed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring {
    Present,
    Missing,
}

/// The client that all tokens of a package are on which has none of its own.
pub(crate) fn of_package(
    package: Package,
    settings: &Settings,
    ring: Ring,
    report: &mut Report,
) -> Result<ClientOrder, Unreadable> {
    let name = named(package.as_str())?;
    let forever = Policy { ttl: None, renewal: Renewal::Never, ..Policy::default() };
    let policy = match package {
        Package::Multitoken => forever,
        Package::Advanced | Package::Authtoken => Policy { reissue: Reissue::Same, ..forever },
        Package::RestAuthtoken => Policy { ttl: lifetime(settings.auth_token_validity), ..forever },
        Package::Knox => {
            let knox = &settings.knox;
            let ttl = knox.ttl.and_then(lifetime);
            let slides = knox.auto_refresh && ttl.is_some();
            let cap = knox.limit.and_then(NonZeroU32::new).map(|limit| Cap { limit, at_cap: AtCap::Refuse });
            Policy {
                ttl,
                max_lifetime: knox.auto_refresh_max.filter(|_| slides).and_then(lifetime),
                renewal: if slides { on_use(knox.min_refresh) } else { Renewal::Never },
                cap,
                ..forever
            }
        }
        Package::Djforge => {
            let ttl = settings.djforge.timeout.and_then(lifetime);
            let slides = settings.djforge.resets && ttl.is_some();
            Policy { ttl, renewal: if slides { on_use(Span(0)) } else { Renewal::Never }, ..forever }
        }
        // Its clients are rows of its own table.
        Package::Durin => forever,
    };
    let wanted = settings.reissue.unwrap_or(policy.reissue);
    Ok(order(name, Policy { reissue: wanted, ..policy }, ring, report))
}

/// A client of django-rest-durin.
pub(crate) fn of_durin(
    row: &ClientRow,
    settings: &Settings,
    ring: Ring,
    report: &mut Report,
) -> Result<ClientOrder, Unreadable> {
    let name =
        named(&row.name).map_err(|unreadable| Unreadable { row: format!("durin client {}", row.id), ..unreadable })?;
    let ttl = lifetime(Span(u64::try_from(row.ttl_micros).unwrap_or(0) / 1_000));
    let allow_login = row.ttl_micros > 0;
    if !allow_login {
        report.warn(format!(
            "client {name} has a token_ttl of 0, so that its tokens were born dead: nobody may log in on it until `counterfoil \
             client update {name} --ttl TIME --login`"
        ));
    } else if ttl.is_none() {
        report.warn(format!("client {name} has a token_ttl of more than a hundred years: its tokens do not expire"));
    } else if row.ttl_micros % 1_000_000 != 0 {
        report.warn(format!("client {name} has a token_ttl with a fraction of a second, which is left out"));
    }
    let policy = Policy {
        // Below a second nothing is left of it.
        ttl: if allow_login && row.ttl_micros < 1_000_000 { Lifetime::from_seconds(1).ok() } else { ttl },
        renewal: Renewal::OnRequest,
        reissue: settings.reissue.unwrap_or(Reissue::Same),
        throttle: row.throttle,
        ..Policy::default()
    };
    Ok(ClientOrder { allow_login, ..order(name, policy, ring, report) })
}

/// The order with what cannot hold here taken out, each time with a warning.
fn order(name: ClientName, mut policy: Policy, ring: Ring, report: &mut Report) -> ClientOrder {
    if policy.reissue == Reissue::Same && ring == Ring::Missing {
        policy.reissue = Reissue::New;
        report.warn(format!(
            "client {name}: a second login gives one more token instead of the same again, which needs a key ring from before the \
             import: `counterfoil keyring init --file FILE` makes one, the setting key_ring_file names it"
        ));
    }
    if policy.check().is_err() {
        report.warn(format!(
            "client {name}: its rules conflict; its tokens are not renewed by being used, and have no cap"
        ));
        policy = Policy { renewal: Renewal::OnRequest, cap: None, max_lifetime: None, ..policy };
    }
    ClientOrder { name, policy, allow_login: true }
}

fn named(text: &str) -> Result<ClientName, Unreadable> {
    text.parse().map_err(|_| Unreadable {
        why: "the name is longer than 64 characters, or has control characters or white space at its ends".to_owned(),
        row: String::new(),
    })
}

/// In whole seconds; `None` beyond what a policy may have, and for nothing.
fn lifetime(span: Span) -> Option<Lifetime> {
    Lifetime::from_seconds(span.0 / 1_000).ok()
}

fn on_use(at_most_every: Span) -> Renewal {
    let least = Lifetime::from_seconds((at_most_every.0 / 1_000).max(10));
    least.map_or(Renewal::OnRequest, |at_most_every| Renewal::OnUse { at_most_every })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, ttl_micros: i64) -> ClientRow {
        ClientRow { id: 1, name: name.to_owned(), ttl_micros, throttle: "3/m".parse().ok() }
    }

    #[test]
    fn a_client_of_durin_keeps_its_rules_and_without_a_ring_gives_new_tokens() {
        let settings = Settings::default();
        let mut report = Report::default();
        let order = of_durin(&row("web", 86_400_000_000), &settings, Ring::Present, &mut report).expect("an order");
        assert_eq!((order.policy.reissue, order.allow_login), (Reissue::Same, true));
        assert_eq!(order.policy.ttl, Lifetime::from_seconds(86_400).ok());
        assert_eq!(order.policy.throttle, "3/m".parse().ok());
        assert_eq!(report, Report::default());
        let order = of_durin(&row("web", 86_400_000_000), &settings, Ring::Missing, &mut report).expect("an order");
        assert_eq!(order.policy.reissue, Reissue::New);
        assert!(report.to_json()["warnings"].to_string().contains("key ring"));
    }

    #[test]
    fn a_client_whose_tokens_were_born_dead_lets_nobody_log_in_and_says_so() {
        for ttl in [0, -1] {
            let mut report = Report::default();
            let order = of_durin(&row("ci", ttl), &Settings::default(), Ring::Present, &mut report).expect("an order");
            assert!(!order.allow_login);
            assert!(report.to_json()["warnings"].to_string().contains("born dead"));
        }
        for odd in [" web", "", &"x".repeat(65), "a\nb"] {
            of_durin(&row(odd, 1), &Settings::default(), Ring::Present, &mut Report::default()).expect_err(odd);
        }
    }

    #[test]
    fn the_rules_of_a_package_are_those_of_its_settings() {
        let mut settings = Settings::default();
        let of = |settings: &Settings, package| {
            of_package(package, settings, Ring::Present, &mut Report::default()).expect("an order").policy
        };
        for package in Package::ALL {
            assert_eq!(of(&settings, package).check(), Ok(()), "{package}");
        }
        assert_eq!(of(&settings, Package::Multitoken).ttl, None);
        assert_eq!(of(&settings, Package::RestAuthtoken).ttl, "1d".parse().ok());
        assert_eq!(of(&settings, Package::Knox).ttl, "10h".parse().ok());
        assert_eq!(of(&settings, Package::Authtoken).reissue, Reissue::Same);
        settings.knox.auto_refresh = true;
        settings.knox.limit = Some(3);
        settings.djforge.timeout = Some(Span(1_000_000));
        assert_eq!(of(&settings, Package::Knox).renewal, Renewal::OnUse { at_most_every: "1m".parse().expect("time") });
        assert_eq!(of(&settings, Package::Knox).cap.map(|cap| cap.limit.get()), Some(3));
        assert_eq!(
            of(&settings, Package::Djforge).renewal,
            Renewal::OnUse { at_most_every: "10s".parse().expect("time") }
        );
    }
}
