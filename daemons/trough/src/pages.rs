//! What packages ship beside the program, made from its own command line: manual pages and completions.

use std::{io::Write as _, path::Path};

use anyhow::Context as _;
use clap::{Command, ValueEnum as _};
use clap_complete::Shell;

/// Prints a shell's completions of `command`.
pub(crate) fn completion(mut command: Command, shell: Shell) {
    // A reader that has seen enough is no failure.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "trough", &mut text);
    let _ = std::io::stdout().write_all(&text);
}

/// Writes a manual page for `command` and each of its subcommands, and the completions for all shells, into `dir`.
///
/// # Errors
/// If a file cannot be written.
pub(crate) fn write(mut command: Command, dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    for shell in Shell::value_variants() {
        let path = clap_complete::generate_to(*shell, &mut command, "trough", dir);
        path.with_context(|| format!("write completions for {shell} into {}", dir.display()))?;
    }
    clap_mangen::generate_to(command, dir).with_context(|| format!("write manual pages into {}", dir.display()))
}
