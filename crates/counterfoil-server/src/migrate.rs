//! `counterfoil migrate`: the tables that a version needs, made in PostgreSQL by a role that may.

use clap::Args;
use counterfoil::postgres::{Migration, migrate, pending_migrations};
use serde_json::{Value, json};

use crate::config::Config;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::store_place::StorePlace;

/// What `migrate` takes.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Print what would be run, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Migrate {
    pub(crate) async fn run(&self, config: &Config, output: Output) -> Result<(), Failure> {
        let StorePlace::Postgres(place) = &config.store else {
            return Err(Failure::refused("the embedded store is brought up when it is opened")
                .hint("name a PostgreSQL with --store or store.url"));
        };
        let (url, options) = (place.url(), place.options());
        if self.dry_run {
            let missing = pending_migrations(url, &options).await?;
            return match output {
                // As it would be run, for somebody to read or to hand to psql.
                Output::Human => output::write(&script(&missing)),
                Output::Json => output::line(&json!({ "pending": described(&missing) }).to_string()),
            };
        }
        let applied = migrate(url, &options).await?;
        let text = match applied.as_slice() {
            [] => "nothing to do".to_owned(),
            some => some
                .iter()
                .map(|migration| format!("applied {} {}", migration.number, migration.name))
                .collect::<Vec<_>>()
                .join(", "),
        };
        output.answer(&text, &json!({ "applied": described(&applied) }))
    }
}

fn script(missing: &[Migration]) -> String {
    match missing {
        [] => "-- nothing to do\n".to_owned(),
        some => some
            .iter()
            .map(|Migration { number, name, sql, .. }| format!("-- migration {number}: {name}\n{}\n", sql.trim_end()))
            .collect(),
    }
}

fn described(migrations: &[Migration]) -> Vec<Value> {
    let described =
        |Migration { number, name, sql, .. }: &Migration| json!({ "number": number, "name": name, "sql": sql });
    migrations.iter().map(described).collect()
}
