//! PgBouncer in front of a PostgreSQL, in transaction mode: two statements of a client may reach different sessions.

use std::fs::{self, File};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rustix::process::Signal;

use crate::child;
use crate::directory::Directory;
use crate::port::Port;
use crate::postgres;
use crate::waiting::within;

/// A pooler of one's own, gone when dropped. The server behind it is somebody else's.
#[derive(Debug)]
pub struct Pooler {
    port: Port,
    child: Child,
    directory: Directory,
}

impl Pooler {
    /// In front of this server, with at most `sessions` to a database.
    pub fn start(server: &postgres::Server, sessions: u32) -> Pooler {
        let directory = Directory::new();
        let port = Port::free();
        let file = directory.path().join("pgbouncer.ini");
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 1000\ndefault_pool_size = {sessions}\n\
             ignore_startup_parameters = extra_float_digits,options\nserver_login_retry = 0\nquery_wait_timeout = 30\n",
            server.port(),
            port.number
        );
        // Whoever asks is the superuser there: PgBouncer needs a name when it does not ask for one.
        let configuration = configuration.replace("port=", "user=lab port=");
        fs::write(&file, configuration).expect("a file");
        let log = File::create(directory.path().join("log")).expect("a log");
        let mut command = child::server("pgbouncer", "KILL");
        command.arg(&file).stdout(Stdio::null()).stderr(log);
        let mut child = child::start(command).expect("pgbouncer, which `cargo xtask test` installs");
        within("PgBouncer is ready", || {
            let ended = child.try_wait().expect("a status");
            assert!(ended.is_none(), "{}", fs::read_to_string(directory.path().join("log")).unwrap_or_default());
            TcpStream::connect(("127.0.0.1", port.number)).ok()
        });
        Pooler { port, child, directory }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Where a client finds a database through it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://lab@127.0.0.1:{}/{database}", self.port.number)
    }

    /// What it wrote about itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        child::signal(self.child.id(), Signal::KILL);
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::process::Command;

    /// With one session for all, a client that has asked and stays would keep others out, were sessions lent for longer than a
    /// transaction.
    #[test]
    fn a_session_is_lent_for_one_transaction() {
        let server = postgres::Server::start();
        let pooler = Pooler::start(&server, 1);
        let mut clients: Vec<_> = (0..2)
            .map(|_| {
                let mut psql = Command::new("psql");
                psql.args(["-XAtq", "-f", "-"]).arg(pooler.url("postgres"));
                psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql")
            })
            .collect();
        for client in &mut clients {
            client.stdin.as_mut().expect("stdin").write_all(b"SELECT pg_backend_pid();\n").expect("written");
        }
        let mut sessions = clients.iter_mut().map(|client| {
            let mut line = String::new();
            BufReader::new(client.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("a line");
            line
        });
        assert_eq!(sessions.next(), sessions.next(), "{}", pooler.log());
        for mut client in clients {
            drop(client.stdin.take());
            client.wait().expect("a status");
        }
    }
}
