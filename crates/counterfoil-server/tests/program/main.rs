//! The program as its users have it: started, spoken to over HTTP, told to stop.

#[cfg(unix)]
mod backups;
mod bounds;
mod command_line;
mod configuration;
mod demonstration;
mod exchange;
mod in_process;
mod measuring;
mod reloading;
mod running;
mod secrets;
mod serving;
mod sockets;
mod stress;
