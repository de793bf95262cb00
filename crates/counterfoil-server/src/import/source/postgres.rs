//! A PostgreSQL database, read in one snapshot by a cursor.
//!
//! Every value comes as text that the server made, so that a type of somebody's own (citext, an enumeration, a domain) needs no
//! code here; what is long is cut off there.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fs, io};

use postgres::config::{Host, SslMode};
use postgres::{Client, Config, NoTls, Row};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Column, Source, Table, quoted};
use crate::failure::{Failure, causes};
use crate::import::cell::{Cell, MAX_CELL, Odd};

/// Rows fetched at once.
const PAGE: usize = 2_000;

pub(super) struct Postgres {
    client: Client,
}

impl Postgres {
    pub(super) fn open(url: &str, password: Option<&str>) -> Result<Postgres, Failure> {
        let (mut config, roots) = parse(url)?;
        if let Some(password) = password {
            config.password(password);
        }
        let connected = if config.get_ssl_mode() == SslMode::Disable {
            config.connect(NoTls)
        } else {
            config.connect(MakeRustlsConnect::new(tls(roots.as_ref())?))
        };
        let client = connected.map_err(|error| {
            Failure::refused(format!("cannot connect to the database: {}", causes(&error))).hint(
                "TLS is expected of servers elsewhere, with a certificate that this machine trusts: sslrootcert=FILE behind \
                 the URL names another authority, sslmode=disable does without",
            )
        })?;
        Ok(Postgres { client })
    }

    fn failed(doing: &str, error: &postgres::Error) -> Failure {
        Failure::refused(format!("cannot {doing} of the source: {}", causes(error)))
    }
}

impl Source for Postgres {
    fn look(&mut self) -> Result<(), Failure> {
        // Local to the transaction, so that a connection that a pool hands on keeps nothing of it.
        let begin = "ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
            SET LOCAL TIME ZONE 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL bytea_output = 'hex';
            SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
        self.client.batch_execute(begin).map_err(|error| Postgres::failed("begin to read", &error))
    }

    fn tables(&mut self) -> Result<Vec<Table>, Failure> {
        const COLUMNS: &str = "
            SELECT c.relname::text, a.attname::text, format_type(a.atttypid, NULL)::text,
                   EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey)),
                   (SELECT min(f.relname::text) FROM pg_constraint k JOIN pg_class f ON f.oid = k.confrelid
                    WHERE k.contype = 'f' AND k.conrelid = c.oid AND k.conkey = ARRAY[a.attnum])
            FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND a.attnum > 0 AND NOT a.attisdropped
              AND c.relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema'))
            ORDER BY c.relname, a.attnum";
        let rows = self.client.query(COLUMNS, &[]).map_err(|error| Postgres::failed("read the tables", &error))?;
        let mut tables: Vec<Table> = Vec::new();
        for row in rows {
            let name: String = row.get(0);
            let column = Column { name: row.get(1), kind: row.get(2), primary: row.get(3), refers_to: row.get(4) };
            match tables.last_mut().filter(|table| table.name == name) {
                Some(table) => table.columns.push(column),
                None => tables.push(Table { name, columns: vec![column] }),
            }
        }
        Ok(tables)
    }

    fn strays(&self) -> u64 {
        0
    }

    fn count(&mut self, table: &Table) -> Result<u64, Failure> {
        let sql = format!("SELECT count(*) FROM {}", quoted(&table.name));
        let row = self.client.query_one(&sql, &[]).map_err(|error| Postgres::failed("count the rows", &error))?;
        Ok(row.get::<_, i64>(0).max(0) as u64)
    }

    fn rows(
        &mut self,
        table: &Table,
        columns: &[&str],
        each: &mut dyn FnMut(&[Cell]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let most = MAX_CELL + 1;
        let mut is_bytes = Vec::new();
        let list: Vec<String> = columns
            .iter()
            .map(|name| {
                let kind = table.column(name).map_or("", |column| column.kind.as_str());
                is_bytes.push(kind == "bytea");
                let name = quoted(name);
                match kind {
                    "bytea" => format!("encode(substring({name} FROM 1 FOR {most}), 'hex')"),
                    // Django's lengths of time: a number of days and one of microseconds, hence exact.
                    "interval" => format!("trunc((extract(epoch FROM {name}) * 1000000)::numeric)::text"),
                    _ => format!("left({name}::text, {most})"),
                }
            })
            .collect();
        let failed = |error: postgres::Error| Postgres::failed("read rows", &error);
        let declare = format!(
            "DECLARE counterfoil_import NO SCROLL CURSOR FOR SELECT {} FROM {}",
            list.join(", "),
            quoted(&table.name)
        );
        self.client.batch_execute(&declare).map_err(failed)?;
        let fetch = self.client.prepare(&format!("FETCH {PAGE} FROM counterfoil_import")).map_err(failed)?;
        let mut cells = Vec::with_capacity(columns.len());
        loop {
            let rows = self.client.query(&fetch, &[]).map_err(failed)?;
            for row in &rows {
                cells.clear();
                cells.extend(is_bytes.iter().enumerate().map(|(index, &is_bytes)| cell(row, index, is_bytes)));
                each(&cells)?;
            }
            if rows.len() < PAGE {
                break;
            }
        }
        self.client.batch_execute("CLOSE counterfoil_import").map_err(failed)
    }
}

fn cell(row: &Row, index: usize, is_bytes: bool) -> Cell {
    match row.try_get::<_, Option<&str>>(index) {
        Ok(None) => Cell::Null,
        Ok(Some(text)) if is_bytes => {
            if text.len() > 2 * MAX_CELL {
                return Cell::Odd(Odd::TooLong);
            }
            let pairs = text
                .as_bytes()
                .chunks(2)
                .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()));
            pairs.collect::<Option<Vec<u8>>>().map_or(Cell::Odd(Odd::NoBytes), Cell::Bytes)
        }
        Ok(Some(text)) => Cell::of_text(text),
        Err(_) => Cell::Odd(Odd::NotUtf8),
    }
}

/// The URL as libpq has it. What the driver does not know of it is taken out: the stricter words of `sslmode` (a certificate is
/// always looked at here), and `sslrootcert`.
fn parse(url: &str) -> Result<(Config, Option<PathBuf>), Failure> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut mode = None;
    let mut roots = None;
    let mut others = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", word)) => mode = Some(word),
            Some(("sslrootcert", path)) => roots = Some(PathBuf::from(path)),
            _ => others.push(pair),
        }
    }
    // What the driver says of a bad URL may quote it, and there may be a password in it.
    let mut config: Config = format!("{base}?{}", others.join("&")).parse().map_err(|_| {
        Failure::usage("the URL after --from is none of PostgreSQL").hint("postgres://USER@HOST/DATABASE")
    })?;
    let is_here = config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => matches!(name.as_str(), "localhost" | "127.0.0.1" | "::1"),
        #[cfg(unix)]
        Host::Unix(_) => true,
    });
    config.ssl_mode(match mode {
        Some("disable") => SslMode::Disable,
        Some("allow" | "prefer") => SslMode::Prefer,
        Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
        None if is_here => SslMode::Disable,
        None => SslMode::Require,
        Some(_) => return Err(Failure::usage("sslmode is disable, prefer, require, verify-ca or verify-full")),
    });
    config.application_name("counterfoil import");
    Ok((config, roots))
}

fn tls(roots: Option<&PathBuf>) -> Result<ClientConfig, Failure> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Some(path) => {
            let failed =
                |error: &dyn std::error::Error| Failure::caused_by(format!("cannot read {}", path.display()), error);
            let text = fs::read(path).map_err(|error| failed(&error))?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|error| failed(&error))?;
                trusted.add(certificate).map_err(|error| failed(&error))?;
            }
            if trusted.is_empty() {
                return Err(failed(&io::Error::other("there is no certificate in it")));
            }
        }
        None => {
            // Those that this machine cannot read are not trusted; without any, no server is.
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::caused_by("TLS is not to be had", &error))?;
    Ok(config.with_root_certificates(trusted).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_is_spoken_to_by_tls_unless_its_owner_says_otherwise() {
        let mode = |url: &str| parse(url).expect(url).0.get_ssl_mode();
        assert_eq!(mode("postgres://django@db.example.org/site"), SslMode::Require);
        assert_eq!(mode("postgres://django@db.example.org/site?sslmode=verify-full"), SslMode::Require);
        assert_eq!(mode("postgres://django@db.example.org/site?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://django@127.0.0.1:5433/site?connect_timeout=5"), SslMode::Disable);
        assert_eq!(mode("postgres:///site?host=/run/postgresql"), SslMode::Disable);
        assert_eq!(
            parse("postgres://a@b/c?sslrootcert=/etc/ca.pem").expect("url").1,
            Some(PathBuf::from("/etc/ca.pem"))
        );
    }

    #[test]
    fn a_url_that_is_none_is_not_quoted() {
        for wrong in ["postgres://django:hunter2@:x/", "postgres://django:hunter2@h/d?sslmode=maybe"] {
            let failure = parse(wrong).expect_err(wrong);
            assert!(!format!("{failure} {failure:?}").contains("hunter2"));
        }
    }
}
