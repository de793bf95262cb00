//! The program as its users have it: started, spoken to over HTTP, told to stop.

mod administration;
#[cfg(unix)]
mod auditing;
#[cfg(unix)]
mod backups;
mod bounds;
mod command_line;
mod configuration;
mod demonstration;
mod dialects;
mod django;
#[cfg(unix)]
mod doctoring;
mod exchange;
mod hanging_up;
#[cfg(target_os = "linux")]
mod importing;
mod in_process;
#[cfg(unix)]
mod key_rings;
#[path = "../../../counterfoil/tests/mail/server.rs"]
mod mail_server;
mod mailing;
mod measuring;
#[cfg(unix)]
mod moving;
#[cfg(target_os = "linux")]
mod nodes;
#[cfg(unix)]
mod postgresql;
mod reloading;
mod running;
mod secrets;
mod serving;
mod sockets;
mod stress;
#[cfg(unix)]
mod tokens_in_redis;
