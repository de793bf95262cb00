//! The counterfoil server as a library: what the program `counterfoil` consists of, so that tests can start it in their own
//! process. Services in Rust depend on the crate `counterfoil` instead.

mod account_settings;
mod audit;
mod backup;
mod cli;
mod client;
mod config;
mod connection;
mod demo;
mod django;
mod doctor;
mod exposition;
mod failure;
mod import;
mod key;
mod keyring;
mod listen;
mod log;
mod mail;
mod mail_settings;
mod migrate;
mod mounts;
mod office;
mod output;
mod password_input;
mod private_file;
mod reload;
mod serve;
mod service_manager;
mod setting;
mod store;
mod store_place;
mod token;
mod user;
mod when;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use counterfoil::EVERYWHERE_AFTER_MILLIS;
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::cli::{Cli, Command, Common, ConfigCommand, OfficeCommand, Serve, Wait};
use crate::django::DjangoCommand;
use crate::exposition::Exposition;
use crate::keyring::SealedCommand;
use crate::office::Office;
use crate::output::Output;
use crate::reload::{Hangups, Reloading};
use crate::serve::Rewound;
use crate::setting::Chosen;

pub use config::{Config, Log, LogFormat};
pub use failure::Failure;
pub use import::pickle;
pub use listen::{Listener, Place};
pub use mail_settings::{MailSettings, MailTransport};
pub use mounts::Mounts;
pub use serve::App;
pub use store_place::{PostgresPlace, StorePlace};

/// Opens what `config` says for serving. [`App::serve`] does the rest.
///
/// # Errors
/// When the store does not open; the text says what to do.
pub async fn app(config: &Config) -> Result<App, Failure> {
    App::open(config, Rewound::Refuse).await
}

/// The program: reads arguments and environment, does what they say, returns the exit status: 0 when it was done, 1 when it
/// could not be, 2 when the command or the configuration makes no sense.
pub fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment, for the configuration")]
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, too; it knows where each of them is printed.
            if error.use_stderr() && asks_for_json(std::env::args_os()) {
                Output::Json.failure(&Failure::of_arguments(&error));
            } else {
                error.print().ok();
            }
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let output = if cli.common.json { Output::Json } else { Output::Human };
    match run(cli, output, &environment) {
        Ok(code) => code,
        Err(failure) => {
            output.failure(&failure);
            failure.exit_code()
        }
    }
}

/// Whether `--json` is among arguments that cannot be understood as a whole.
fn asks_for_json(arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

fn run(cli: Cli, output: Output, environment: &[(OsString, OsString)]) -> Result<ExitCode, Failure> {
    let done = |()| ExitCode::SUCCESS;
    match cli.command {
        Command::Serve(serve) => run_server(serve, cli.common, environment),
        Command::Config(command) => run_config(command, output, &cli.common, environment).map(done),
        Command::Migrate(command) => {
            let config = Config::judge(&chosen(&cli.common, None, environment)?)?;
            runtime(Builder::new_current_thread().enable_all())?.block_on(command.run(&config, output)).map(done)
        }
        Command::Backup(command) => {
            let config = Config::judge(&chosen(&cli.common, None, environment)?)?;
            command.run(&config, output).map(done)
        }
        Command::Restore(command) => {
            let config = Config::judge(&chosen(&cli.common, None, environment)?)?;
            command.run(&config, output).map(done)
        }
        Command::WholeStore(command) => {
            runtime(Builder::new_current_thread().enable_all())?.block_on(command.run(output, environment)).map(done)
        }
        Command::Keyring(command) => {
            let config = || Config::judge(&chosen(&cli.common, None, environment)?);
            let sealed = |command, config: &Config| {
                runtime(Builder::new_current_thread().enable_all())?.block_on(run_sealed(command, config, output))
            };
            command.run(config, output, sealed).map(done)
        }
        Command::Import(command) => {
            let config = Config::judge(&chosen(&cli.common, None, environment)?)?;
            runtime(Builder::new_current_thread().enable_all())?.block_on(command.run(&config, output)).map(done)
        }
        Command::Mail(command) => {
            let config = Config::judge(&chosen(&cli.common, None, environment)?)?;
            runtime(Builder::new_current_thread().enable_all())?.block_on(command.run(&config, output)).map(done)
        }
        Command::Django(command) => {
            let config = Config::judge(&chosen(&cli.common, None, environment)?)?;
            runtime(Builder::new_current_thread().enable_all())?.block_on(run_django(command, &config, output))
        }
        Command::Doctor => {
            let chosen = chosen(&cli.common, None, environment);
            runtime(Builder::new_current_thread().enable_all())?.block_on(doctor::run(chosen, output))
        }
        Command::Openapi => output::line(&format!("{:#}", counterfoil::openapi())).map(done),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "counterfoil", &mut script);
            output::write(&String::from_utf8_lossy(&script)).map(done)
        }
        Command::Office(command) => {
            let config = Config::judge(&chosen(&cli.common, None, environment)?)?;
            runtime(Builder::new_current_thread().enable_all())?
                .block_on(run_command(command, &config, cli.common.wait, output))
                .map(done)
        }
    }
}

/// The settings in force: flags over environment over file over defaults.
fn chosen(common: &Common, serve: Option<&Serve>, environment: &[(OsString, OsString)]) -> Result<Chosen, Failure> {
    let mut chosen = Chosen::read(common.config.as_deref(), environment)?;
    match (&common.data_dir, &common.store) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage("--data-dir and --store both say where everything is kept; give one of them"));
        }
        (Some(directory), None) => {
            let text = directory.to_str().ok_or_else(|| Failure::usage("the path after --data-dir is not UTF-8"))?;
            chosen.flag("data_dir", "--data-dir", Some(text.to_owned()));
            chosen.overrule(&["store.url", "store.url_file"]);
        }
        (None, Some(url)) => {
            store_place::may_be_an_argument(url)?;
            chosen.overrule(&["store.url_file"]);
            chosen.flag("store.url", "--store", Some(url.clone()));
        }
        (None, None) => {}
    }
    if let Some(serve) = serve {
        chosen.flag("listen", "--listen", serve.listen.clone());
        chosen.flag("log.format", "--log-format", serve.log_format.clone());
        chosen.flag("log.level", "--log-level", serve.log_level.clone());
    }
    Ok(chosen)
}

fn runtime(builder: &mut Builder) -> Result<Runtime, Failure> {
    builder.build().map_err(|error| Failure::caused_by("the system gave no threads", &error))
}

fn run_config(
    command: ConfigCommand,
    output: Output,
    common: &Common,
    environment: &[(OsString, OsString)],
) -> Result<(), Failure> {
    match command {
        ConfigCommand::Defaults => match output {
            Output::Human => output::write(&setting::documented_defaults()),
            Output::Json => output::line(&Chosen::defaults().to_json().to_string()),
        },
        ConfigCommand::Check => {
            let config = Config::judge(&chosen(common, None, environment)?)?;
            config.key_ring()?;
            config.mail.check()?;
            let warnings: Vec<String> = config.mounts.warnings().collect();
            if output == Output::Human {
                warnings.iter().for_each(|warning| output::remark(&format!("warning: {warning}")));
            }
            output.answer("the settings are sound", &json!({ "sound": true, "warnings": warnings }))
        }
        ConfigCommand::Show => {
            let chosen = chosen(common, None, environment)?;
            match output {
                Output::Human => output::write(&chosen.to_toml())?,
                Output::Json => output::line(&chosen.to_json().to_string())?,
            }
            Config::judge(&chosen).map(drop)
        }
    }
}

async fn run_command(
    command: OfficeCommand,
    config: &Config,
    wait: Option<Wait>,
    output: Output,
) -> Result<(), Failure> {
    let founds = match &command {
        OfficeCommand::User(command) => command.founds(),
        OfficeCommand::Client(command) => command.founds(),
        OfficeCommand::Token(_) | OfficeCommand::Key(_) | OfficeCommand::Audit(_) => false,
    };
    let office = Office::open(config, founds, output).await?;
    let done = match command {
        OfficeCommand::User(command) => Box::pin(command.run(&office)).await,
        OfficeCommand::Client(command) => Box::pin(command.run(&office)).await,
        OfficeCommand::Token(command) => Box::pin(command.run(&office)).await,
        OfficeCommand::Key(command) => Box::pin(command.run(&office)).await,
        OfficeCommand::Audit(command) => Box::pin(command.run(&office)).await,
    };
    if let (Ok(()), Some(Wait::Everywhere)) = (&done, wait) {
        // A server beside it, or a node elsewhere, may answer from memory as long as that.
        tokio::time::sleep(Duration::from_millis(EVERYWHERE_AFTER_MILLIS)).await;
    }
    office.close().await;
    done
}

async fn run_django(command: DjangoCommand, config: &Config, output: Output) -> Result<ExitCode, Failure> {
    let office = Office::open(config, command.founds(), output).await?;
    let done = Box::pin(command.run(&office)).await;
    office.close().await;
    done
}

async fn run_sealed(command: SealedCommand, config: &Config, output: Output) -> Result<(), Failure> {
    let office = Office::open(config, false, output).await?;
    let done = Box::pin(command.run(&office, config)).await;
    office.close().await;
    done
}

fn run_server(serve: Serve, common: Common, environment: &[(OsString, OsString)]) -> Result<ExitCode, Failure> {
    let chosen = chosen(&common, Some(&serve), environment)?;
    let mut config = Config::judge(&chosen)?;
    let demo = if serve.demo {
        if common.data_dir.is_some() || common.store.is_some() {
            return Err(Failure::usage("--demo keeps everything in a throw-away directory")
                .hint("leave out --data-dir and --store, or --demo"));
        }
        let demo = demo::Demo::new()?;
        let Place::Address(_) = config.listen else {
            return Err(Failure::usage("--demo prints lines for curl, which need an address and a port")
                .hint("leave out --listen, or name an address with it"));
        };
        config.data_dir = demo.data_dir().to_owned();
        config.store = StorePlace::DataDir;
        config.tokens = None;
        Some(demo)
    } else {
        None
    };
    let volume = log::start(config.log);
    let runtime = runtime(Builder::new_multi_thread().enable_all())?;
    let code = runtime.block_on(run_until_stopped(Start {
        config,
        chosen,
        rewound: serve.rewound(),
        demo: demo.is_some(),
        volume,
        // Flags and environment stay what they were; the file may have changed.
        read: {
            let environment = environment.to_vec();
            move || self::chosen(&common, Some(&serve), &environment)
        },
    }));
    // Whatever has not ended by now was told to and is not waited for.
    runtime.shutdown_background();
    code
}

/// What a server is started with.
struct Start<Read> {
    config: Config,
    /// The settings before they were judged.
    chosen: Chosen,
    rewound: Rewound,
    demo: bool,
    volume: log::Volume,
    /// Reads the settings again.
    read: Read,
}

async fn run_until_stopped<Read>(start: Start<Read>) -> Result<ExitCode, Failure>
where
    Read: Fn() -> Result<Chosen, Failure> + Send + 'static,
{
    let Start { mut config, chosen, rewound, demo, volume, read } = start;
    let deaf = |error: io::Error| Failure::caused_by("cannot hear signals", &error);
    let (stop, again) = serve::told_to_stop().map_err(deaf)?;
    let hangups = Hangups::hear().map_err(deaf)?;
    // First, because whoever cannot listen should not touch the data.
    let listener = config.listen.open().await?;
    let url = listener.url().map_err(|error| Failure::caused_by("cannot tell the address", &error))?;
    let metrics = match &config.metrics_listen {
        Some(place) => Some((Exposition::begin()?, place.open().await?)),
        None => None,
    };
    config.listening_on(&url);
    let app = App::open(&config, rewound).await?;
    // Until requests have been finished at the end.
    let mut exposing = JoinSet::new();
    if let Some((exposition, listener)) = metrics {
        let url = listener.url().map_err(|error| Failure::caused_by("cannot tell the address", &error))?;
        exposing.spawn(app.expose(&exposition, listener));
        tracing::info!(metrics = %url, "what is measured is shown");
    }
    tokio::spawn(Reloading::new(read, chosen, app.adoption(url.clone()), volume).run(hangups));
    let mut announcement = format!("listening on {url}\n");
    if demo {
        let counterfoil = app.counterfoil();
        let password = demo::furnish(counterfoil.authority(), counterfoil.clock().now()).await?;
        announcement.push_str(&demo::lines(&url, &password));
    } else {
        app.look_for_administrator(match (&config.store, &config.tokens) {
            (StorePlace::DataDir, None) => {
                format!("--data-dir {} ", failure::printable(&config.data_dir.display().to_string()))
            }
            // It has been told where that is already, and no such URL may be an argument.
            (StorePlace::DataDir, Some(_)) | (StorePlace::Postgres(_), _) => String::new(),
        });
    }
    // The kernel takes connections from here on; they are answered as soon as the line is out.
    output::write(&announcement)?;
    if let Some(tokens) = &config.tokens {
        tracing::info!(%tokens, "tokens are kept in Redis; what its promise is: docs/redis.md");
    }
    tracing::info!(%url, store = config.store.shown(&config.data_dir), version = env!("CARGO_PKG_VERSION"), "listening");
    service_manager::ready();
    let code = tokio::select! {
        () = app.serve(listener, stop) => ExitCode::SUCCESS,
        () = again => {
            tracing::warn!("told twice to stop: requests under way were cut off");
            ExitCode::from(130)
        }
    };
    exposing.shutdown().await;
    Ok(code)
}
