//! Saving the metadata, and bringing it back: straight from and to the database, so that it works without a sync server.

use std::{fs::File, io::Write as _, path::Path};

use anyhow::Context as _;
use futures::StreamExt as _;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::json;
use trough_client::Catalog;
use trough_sync::backup;

use super::print_json;

pub(super) async fn save(catalog: &Catalog, path: &Path, as_json: bool) -> anyhow::Result<()> {
    let mut name = path.file_name().context("FILE names no file")?.to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = write(catalog, &part).await.with_context(|| format!("write {}", part.display()));
    let checked = match written {
        Ok(bytes) => {
            let part = part.clone();
            tokio::task::spawn_blocking(move || backup::verify(&part))
                .await?
                .map(|(header, counts)| (header, counts, bytes))
        }
        Err(error) => Err(error),
    };
    let (header, counts, bytes) = checked.inspect_err(|_| drop(std::fs::remove_file(&part)))?;
    std::fs::rename(&part, path).with_context(|| format!("rename {} to {}", part.display(), path.display()))?;
    if as_json {
        print_json(&json!({"file": path, "bytes": bytes, "header": header, "documents": counts}));
        return Ok(());
    }
    let tables: Vec<String> = counts.iter().map(|(table, n)| format!("{n} in {table}")).collect();
    println!("{}: {} ({})", path.display(), HumanBytes(bytes), tables.join(", "));
    Ok(())
}

async fn write(catalog: &Catalog, part: &Path) -> anyhow::Result<u64> {
    let mut file = File::create(part)?;
    let mut chunks = std::pin::pin!(backup::stream(catalog.clone()));
    let mut bytes = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        file.write_all(&chunk)?;
        bytes += chunk.len() as u64;
    }
    file.sync_all()?;
    Ok(bytes)
}

pub(super) async fn restore(catalog: &Catalog, path: &Path, overwrite: bool, as_json: bool) -> anyhow::Result<()> {
    let bar =
        ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {pos} documents {elapsed}")?);
    let restored = backup::restore(catalog, path, overwrite, |written| bar.set_position(written)).await;
    bar.finish_and_clear();
    let (header, counts) = restored?;
    if as_json {
        print_json(&json!({"header": header, "documents": counts}));
        return Ok(());
    }
    let tables: Vec<String> = counts.iter().map(|(table, n)| format!("{n} in {table}")).collect();
    println!("restored what version {} saved: {}", header.version, tables.join(", "));
    println!("start the sync servers again; workers that run need not be restarted");
    Ok(())
}
