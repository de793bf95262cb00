//! The program `counterfoil`. Everything it does is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    counterfoil_server::main()
}
