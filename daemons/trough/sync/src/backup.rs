//! Backup and restore of the metadata: documents as JSON, one a line, compressed (gzip).
//!
//! | line | holds |
//! |---|---|
//! | first | `{"trough_backup": 1, "version", "protocol", "database", "at"}` |
//! | then | `{"t": TABLE, "d": DOCUMENT}`, table by table |
//! | last | `{"end": {"documents": {TABLE: COUNT}, "sha256"}}`, the hash of all bytes before it, uncompressed |
//!
//! Service rows are not in it: they say who serves what at this moment, and workers write them themselves.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use flate2::{Compression, bufread::GzDecoder, write::GzEncoder};
use futures::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use trough_client::{
    Catalog, CatalogError,
    catalog::{BACKED_UP, Document, LOCK, MAX_KEYS, SCHEMA, TROUGH},
};
use trough_core::protocol::PROTOCOL;

/// The form of the file.
const FORM: u32 = 1;
/// Compressed bytes that are given out at a time.
const CHUNK: usize = 64 << 10;
/// How far the epoch is raised over the one in a backup, so that it is above all that were raised after it was made.
const EPOCHS: u64 = 1_000_000;
/// The document that a restore does not take over.
const EPOCH: &str = "epoch";
/// Documents that a sync master writes by itself into a database that is empty otherwise.
const OWN: [&str; 2] = [EPOCH, "generation"];

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORM`].
    pub trough_backup: u32,
    /// The program that made it.
    pub version: String,
    /// The protocol that it speaks.
    pub protocol: u32,
    /// The database's name.
    pub database: String,
    /// When, by the metadata's clock, in seconds since 1970.
    pub at: f64,
}

#[derive(Deserialize)]
struct Line {
    t: String,
    d: Document,
}

#[derive(Deserialize)]
struct Last {
    end: End,
}

#[derive(Deserialize)]
struct End {
    documents: BTreeMap<String, u64>,
    sha256: String,
}

/// Documents by table.
pub type Counts = BTreeMap<String, u64>;

struct Writer {
    gzip: GzEncoder<Vec<u8>>,
    hash: Sha256,
}

impl Writer {
    fn line(&mut self, line: &impl Serialize) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.hash.update(&text);
        self.gzip.write_all(&text)
    }

    fn take(&mut self, least: usize) -> Option<Bytes> {
        let done = self.gzip.get_mut();
        (done.len() >= least).then(|| std::mem::take(done).into())
    }
}

/// A backup as it is made; nothing is kept but what is on its way.
pub fn stream(catalog: Catalog) -> impl Stream<Item = Result<Bytes, CatalogError>> + Send {
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(error) = write(&catalog, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

async fn write(catalog: &Catalog, out: &mpsc::Sender<Result<Bytes, CatalogError>>) -> Result<(), CatalogError> {
    let broken = |e: std::io::Error| CatalogError::Record { what: "write a backup", why: e.to_string() };
    let mut writer = Writer { gzip: GzEncoder::new(Vec::new(), Compression::default()), hash: Sha256::new() };
    let header = Header {
        trough_backup: FORM,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: PROTOCOL,
        database: catalog.client().database().to_owned(),
        at: catalog.server_now().await?,
    };
    writer.line(&header).map_err(broken)?;
    let mut counts = Counts::new();
    for table in BACKED_UP {
        let count = counts.entry(table.to_owned()).or_default();
        let mut documents = catalog.documents(table).await?;
        while let Some(document) = documents.next().await {
            writer.line(&json!({"t": table, "d": document?})).map_err(broken)?;
            *count += 1;
            if let Some(chunk) = writer.take(CHUNK)
                && out.send(Ok(chunk)).await.is_err()
            {
                return Ok(());
            }
        }
    }
    let end = json!({"end": {"documents": counts, "sha256": hex(writer.hash.clone())}});
    writer.line(&end).map_err(broken)?;
    let rest = writer.gzip.finish().map_err(broken)?;
    let _ = out.send(Ok(rest.into())).await;
    Ok(())
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a backup to its end and compares counts and hash.
///
/// # Errors
/// If it is none, or is damaged, or was cut off; the text says where.
pub fn verify(path: &Path) -> anyhow::Result<(Header, Counts)> {
    read(path, |_, _| Ok(()))
}

fn read(path: &Path, mut take: impl FnMut(String, Document) -> anyhow::Result<()>) -> anyhow::Result<(Header, Counts)> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut lines = BufReader::new(GzDecoder::new(BufReader::new(file)));
    let (mut text, mut hash, mut counts) = (Vec::new(), Sha256::new(), Counts::new());
    let mut next = |text: &mut Vec<u8>| -> anyhow::Result<bool> {
        text.clear();
        let read = lines
            .read_until(b'\n', text)
            .with_context(|| format!("read {}: it is damaged or cut off", path.display()))?;
        Ok(read > 0)
    };
    ensure!(next(&mut text)?, "{} is empty", path.display());
    let header: Header = serde_json::from_slice(&text)
        .with_context(|| format!("{} is no backup of trough's metadata", path.display()))?;
    ensure!(
        header.trough_backup == FORM,
        "{} has the form {}, this program reads {FORM}: restore it with version {}",
        path.display(),
        header.trough_backup,
        header.version
    );
    hash.update(&text);
    loop {
        ensure!(next(&mut text)?, "{} is cut off: its last line is missing", path.display());
        if text.starts_with(b"{\"end\"") {
            break;
        }
        hash.update(&text);
        let line: Line = serde_json::from_slice(&text).with_context(|| format!("read a line of {}", path.display()))?;
        ensure!(BACKED_UP.contains(&line.t.as_str()), "{} names a table {} that is not known", path.display(), line.t);
        *counts.entry(line.t.clone()).or_default() += 1;
        take(line.t, line.d)?;
    }
    let Last { end } = serde_json::from_slice(&text).with_context(|| format!("read the end of {}", path.display()))?;
    let found = hex(hash);
    ensure!(end.sha256 == found, "{} is damaged: its SHA-256 is {found}, recorded is {}", path.display(), end.sha256);
    let differs = end.documents.iter().find(|(table, count)| counts.get(*table).copied().unwrap_or(0) != **count);
    if let Some((table, count)) = differs {
        bail!("{} is damaged: table {table} should have {count} documents", path.display());
    }
    Ok((header, counts))
}

/// Writes a backup into the database. `told` hears how many documents are written.
///
/// # Errors
/// If the file is not whole, a sync master is at work, or the database holds something and `overwrite` is not set; nothing is
/// changed then. Else what the metadata says; the restore is then to be done again, with `overwrite`.
pub async fn restore(
    catalog: &Catalog,
    path: &Path,
    overwrite: bool,
    mut told: impl FnMut(u64),
) -> anyhow::Result<(Header, Counts)> {
    let owned = path.to_owned();
    let verified = tokio::task::spawn_blocking(move || verify(&owned)).await.context("read the backup")??;
    catalog.ensure_tables(3).await?;
    if let Some((master, true)) = catalog.master().await? {
        bail!(
            "a sync master is at work ({}): stop the sync servers first, they would place segments meanwhile",
            master.url
        );
    }
    let held = held(catalog).await?;
    if !held.is_empty() {
        ensure!(
            overwrite,
            "the database {} is not empty ({}): --overwrite replaces what is there",
            catalog.client().database(),
            held.iter().map(|(table, n)| format!("{n} in {table}")).collect::<Vec<_>>().join(", ")
        );
    }
    // The documents are read on a thread of their own, a few batches ahead.
    let (sender, mut batches) = mpsc::channel::<(String, Vec<Document>)>(2);
    let owned = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut epoch = 0;
        let send = |batch: (String, Vec<Document>)| sender.blocking_send(batch).context("the restore stopped");
        // Locks first: what a worker holds under one is not replaced by what it is assigned.
        for locks in [true, false] {
            let mut batch: (String, Vec<Document>) = Default::default();
            read(&owned, |table, document| {
                if (table == LOCK) != locks {
                    return Ok(());
                }
                if table == TROUGH && document.get("id").is_some_and(|id| id == EPOCH) {
                    epoch = document.get("epoch").and_then(serde_json::Value::as_u64).unwrap_or(0);
                    return Ok(());
                }
                if batch.0 != table || batch.1.len() >= MAX_KEYS {
                    let full = std::mem::replace(&mut batch, (table, Vec::new()));
                    if !full.1.is_empty() {
                        send(full)?;
                    }
                }
                batch.1.push(document);
                Ok(())
            })?;
            if !batch.1.is_empty() {
                send(batch)?;
            }
        }
        anyhow::Ok(epoch)
    });
    for table in BACKED_UP {
        catalog.clear_table(table).await?;
    }
    let mut written = 0;
    while let Some((table, documents)) = batches.recv().await {
        catalog.put_documents(&table, &documents).await?;
        written += documents.len() as u64;
        told(written);
    }
    let epoch = reading.await.context("read the backup")??;
    catalog.begin_anew(epoch + EPOCHS).await?;
    for (table, count) in &verified.1 {
        let has = catalog.count_documents(table).await?;
        ensure!(
            has == *count,
            "table {table} has {has} documents after the restore, and should have {count}; do it again"
        );
    }
    Ok(verified)
}

/// How many documents stand there that would be lost.
async fn held(catalog: &Catalog) -> Result<Counts, CatalogError> {
    let mut held = Counts::new();
    for table in BACKED_UP {
        let mut count = catalog.count_documents(table).await?;
        if table == TROUGH || table == SCHEMA {
            // Few documents: what every database has does not count.
            count = 0;
            let mut documents = catalog.documents(table).await?;
            while let Some(document) = documents.next().await {
                let id = document?.get("id").and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
                let own = if table == TROUGH { OWN.contains(&id.as_str()) } else { id == "default" };
                count += u64::from(!own);
            }
        }
        if count > 0 {
            held.insert(table.to_owned(), count);
        }
    }
    Ok(held)
}
