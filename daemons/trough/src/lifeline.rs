//! When a process is to stop: on SIGTERM, on Ctrl-C, and, for a child of `trough dev`, when its standard input ends,
//! which the kernel sees to even if the parent was killed.

use std::{io::Read as _, time::Duration};

use tokio_util::sync::CancellationToken;

/// How long a process whose parent is gone may take to stop by itself.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// A token that is cancelled when the process is asked to stop. With `follow_stdin`, also at the end of standard
/// input; the process then ends after [`LAST_WORDS`] at the latest.
///
/// # Errors
/// If signal handlers cannot be installed.
pub fn shutdown_token(follow_stdin: bool) -> std::io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let on_signal = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        on_signal.cancel();
    });
    if follow_stdin {
        let on_end = token.clone();
        std::thread::Builder::new().name("lifeline".into()).spawn(move || {
            let mut byte = [0u8; 64];
            let mut stdin = std::io::stdin().lock();
            while matches!(stdin.read(&mut byte), Ok(n) if n > 0) {}
            on_end.cancel();
            std::thread::sleep(LAST_WORDS);
            std::process::exit(1);
        })?;
    }
    Ok(token)
}
