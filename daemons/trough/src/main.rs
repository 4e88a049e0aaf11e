//! The program `trough`: one subcommand per role.

use std::process::ExitCode;

fn main() -> ExitCode {
    trough::cli::main(std::env::args_os())
}
