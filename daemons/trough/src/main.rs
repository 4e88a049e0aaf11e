//! The program `trough`: one subcommand per role.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// SQLite allocates and frees a dozen times a statement, on every thread of the pools; `override` has its C code use this
/// allocator too.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    trough::cli::main(std::env::args_os())
}
