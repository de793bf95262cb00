//! A small service on the library, as a user of a package would write it again: [`App`].

mod djforge;
mod mailer;
mod passwords;
mod prepare;
mod settings;
mod views;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use axum::Router;
use counterfoil::{
    AccountRules, Counterfoil, HashingCapacity, HashingParams, HttpSettings, KeyRing, MemoryStore, OsEntropy, Settings,
    Silent,
};
use counterfoil_http::Dialect;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::mailer::SiteMailer;
pub(crate) use self::passwords::Passwords;
pub(crate) use self::views::dialect_name;
use crate::cases::Setup;
use crate::mailbox::Mailbox;

/// A running service whose store holds what one scenario asks for, and nothing else.
#[derive(Debug)]
pub(crate) struct App {
    /// Where it listens.
    pub(crate) host: String,
    pub(crate) mailbox: Mailbox,
    counterfoil: Counterfoil,
    serving: JoinHandle<()>,
    _mails: TempDir,
}

/// Why a scenario cannot be replayed here, for people.
type Unable = String;

/// What a scenario asks of a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// As its file of scenarios is called.
    pub(crate) package: &'a str,
    pub(crate) profile: &'a str,
    pub(crate) setup: &'a Setup,
    pub(crate) passwords: &'a Passwords,
}

impl App {
    /// Starts it, on a port of its own.
    pub(crate) async fn start(wanted: Wanted<'_>) -> Result<App, Unable> {
        let mails = tempfile::tempdir().map_err(told)?;
        let django = settings::of_profile(wanted)?;
        let dialect = Dialect::from_settings(views::dialect_of(wanted.package)?, &django.for_dialect).map_err(told)?;
        let store = Arc::new(MemoryStore::new());
        let mailer = SiteMailer::by(&django.for_dialect, mails.path().to_owned())?;
        let counterfoil = start(&store, mailer, |rules| dialect.rule(views::base_of(wanted.package), rules)).await?;
        let http = counterfoil.http(HttpSettings::default());
        let mounted = http.dialect(dialect);
        mounted.prepare().await.map_err(told)?;
        prepare::fill(&counterfoil, Arc::clone(&store), &mounted, wanted, &django).await?;
        let routes = views::routes(wanted, &counterfoil, store, &mounted)?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(told)?;
        let host = listener.local_addr().map_err(told)?.to_string();
        let serving = tokio::spawn(serve(listener, routes));
        Ok(App { host, mailbox: Mailbox::at(mails.path()), counterfoil, serving, _mails: mails })
    }

    pub(crate) async fn stop(self) {
        self.serving.abort();
        self.counterfoil.shutdown().await;
    }
}

async fn start(
    store: &Arc<MemoryStore>,
    mailer: Option<SiteMailer>,
    rule: impl FnOnce(&mut AccountRules),
) -> Result<Counterfoil, Unable> {
    let mut settings = Settings { hashing: HashingParams::insecure_for_tests(), ..Settings::default() };
    rule(&mut settings.accounts);
    let ring = KeyRing::generate(&OsEntropy).map_err(told)?;
    let mut builder = Counterfoil::builder();
    if let Some(mailer) = mailer {
        builder = builder.mail(Arc::new(mailer)).mail_store(Arc::clone(store) as _);
    }
    builder
        .stores(Arc::clone(store) as _, Arc::clone(store) as _)
        .audit(Arc::clone(store) as _)
        .settings(settings)
        .key_ring(ring)
        .hashing(HashingCapacity { threads: NonZeroUsize::MIN, ..HashingCapacity::default() })
        .cached_tokens(NonZeroUsize::new(1_000))
        .events(Arc::new(Silent))
        .start()
        .await
        .map_err(told)
}

async fn serve(listener: TcpListener, routes: Router) {
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    if let Err(error) = axum::serve(listener, service).await {
        eprintln!("a server of ours stopped: {error}");
    }
}

/// With everything that it is because of.
fn told(error: impl std::error::Error) -> Unable {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        told.push_str(&format!(": {error}"));
        source = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::cases::{self, Package};
    use crate::judge::{Verdict, judge};
    use crate::replay::{Side, Time, replay};
    use crate::rules::Rules;

    fn authtoken() -> Package {
        let given = cases::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/given")).unwrap();
        given.into_iter().find(|package| package.name == "drfauthtoken").unwrap()
    }

    fn wanted<'a>(package: &'a Package, passwords: &'a Passwords) -> Wanted<'a> {
        Wanted { package: &package.name, profile: "default", setup: &package.setup, passwords }
    }

    #[tokio::test]
    async fn a_scenario_finds_the_users_and_tokens_that_it_asks_for() {
        let package = authtoken();
        let passwords = Passwords::of(std::slice::from_ref(&package)).unwrap();
        let at_once = Semaphore::new(1);
        let mut seen = 0;
        for scenario in package.scenarios.iter().filter(|scenario| scenario.name.starts_with("me-")) {
            let app = App::start(wanted(&package, &passwords)).await.unwrap();
            let (host, mailbox) = (app.host.clone(), app.mailbox.clone());
            let side = Side { host, base: String::new(), mailbox, at_once: &at_once, time: Time::Real };
            let outcomes = replay(scenario, &package.setup.tokens, "u0123456789", &side).await;
            app.stop().await;
            assert_eq!(judge(scenario, &outcomes, &Rules::default()), Verdict::Identical, "{}", scenario.name);
            seen += 1;
        }
        assert!(seen > 5, "{seen} scenarios");
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_and_nothing_is_started() {
        let mut package = authtoken();
        let passwords = Passwords::of(std::slice::from_ref(&package)).unwrap();
        let unable = async |wanted: Wanted<'_>| App::start(wanted).await.unwrap_err();
        let profile = Wanted { profile: "strict", ..wanted(&package, &passwords) };
        assert_eq!(unable(profile).await, "there is no profile \"strict\"");
        let dialect = Wanted { package: "simplejwt", ..wanted(&package, &passwords) };
        assert_eq!(unable(dialect).await, "there is no dialect \"simplejwt\"");
        package.setup.views.push("/admin/".to_owned());
        assert_eq!(unable(wanted(&package, &passwords)).await, "there is no view \"/admin/\"");
    }
}
