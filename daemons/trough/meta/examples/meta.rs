//! Serves a directory on an address until interrupted: `meta DIR [ADDRESS]`. What `trough meta` does, for tests of this
//! crate alone.

use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or_else(|| anyhow::anyhow!("usage: meta DIR [ADDRESS]"))?;
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:28015".into()).parse()?;
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        stopped.cancel();
    });
    trough_meta::serve(trough_meta::MetaOptions::new(dir, listen), stop).await?;
    Ok(())
}
