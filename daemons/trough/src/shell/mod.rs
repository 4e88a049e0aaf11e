//! The interactive shell.

use std::process::ExitCode;

use clap::Args;

/// Options of `trough shell`.
#[derive(Args, Debug)]
pub struct ShellArgs {
    /// Segments to connect to
    pub segments: Vec<String>,
}

/// Runs it.
///
/// # Errors
/// If it cannot start.
pub async fn run(_args: ShellArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not here yet")
}
