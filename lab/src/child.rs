//! Processes that end with the one that started them, however that ends.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::waiting::within;

/// The user whom servers run as where tests run as root: PostgreSQL refuses to be root.
pub(crate) const NOBODY: u32 = 65_534;

pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// A program, run by whom servers are run by.
pub(crate) fn unprivileged(program: impl AsRef<Path>) -> Command {
    prepared(program, &[])
}

/// The same as a server: it gets `signal` when this process ends, even by SIGKILL.
pub(crate) fn server(program: impl AsRef<Path>, signal: &str) -> Command {
    prepared(program, &["--pdeathsig", signal])
}

fn prepared(program: impl AsRef<Path>, more: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
    } else {
        // It must be given something to do.
        command.arg("--no-new-privs");
    }
    command.args(more).arg("--").arg(program.as_ref());
    command.current_dir("/tmp").env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

/// Starts a process from a thread that lives as long as this process: the signal at a parent's death comes when the *thread*
/// dies that started the child, and that of a test dies with the test.
pub(crate) fn start(command: Command) -> io::Result<Child> {
    type Order = (Command, Sender<io::Result<Child>>);
    static KEEPER: OnceLock<Sender<Order>> = OnceLock::new();
    let keeper = KEEPER.get_or_init(|| {
        let (orders, received) = channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in received {
                answer.send(command.spawn()).ok();
            }
        });
        orders
    });
    let (answer, answered) = channel();
    keeper.send((command, answer)).expect("the thread lives as long as its channel");
    answered.recv().expect("an answer")
}

/// Runs it to its end.
///
/// # Panics
/// When it cannot be run or fails; with what it said.
pub(crate) fn run(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    assert!(output.status.success(), "{command:?}: {}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// Sends a signal, if it still runs. After SIGSTOP it stands still when this returns: the kernel may let it go on for a moment.
pub(crate) fn signal(id: u32, signal: Signal) {
    let raw = i32::try_from(id).ok().and_then(Pid::from_raw);
    raw.map(|raw| kill_process(raw, signal));
    if signal == Signal::STOP {
        within("a process that is stopped stands still", || (!runs(id)).then_some(()));
    }
}

/// Whether it neither stands still nor has ended.
fn runs(id: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // Behind its name, which may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['T', 't', 'Z', 'X']))
}

/// The processes whose parent this is. PostgreSQL's have process groups of their own.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { return false };
        // pid (name) state ppid …, where the name may hold anything.
        let after = stat.rsplit_once(')').map(|(_, after)| after.split_whitespace().nth(1));
        after.flatten().is_some_and(|id| id.parse() == Ok(parent))
    })
    .collect()
}
