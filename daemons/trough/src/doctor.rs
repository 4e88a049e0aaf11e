//! The check-up.

use std::process::ExitCode;

use clap::Args;

/// Options of `trough doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Print all settings
    #[arg(long)]
    pub settings: bool,
}

/// Runs it.
///
/// # Errors
/// If it cannot start.
pub async fn run(_args: DoctorArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not here yet")
}
