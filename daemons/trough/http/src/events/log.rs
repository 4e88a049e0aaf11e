//! The log of events: a line of JSON an event, in two files of at most `kept` lines each. When the newer one is full it
//! takes the place of the older one. Written by a thread of its own; not synced, for nothing relies on it.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
};

use super::Event;

/// The file that is written.
const NEWER: &str = ".trough-events.ndjson";
/// The one before.
const OLDER: &str = ".trough-events.1.ndjson";
/// Events that may wait for the disk.
const WAITING: usize = 4_096;

enum Order {
    Append(Event),
    Flush(SyncSender<()>),
}

/// Where events go that shall outlive the process.
#[derive(Debug)]
pub(super) struct Log(SyncSender<Order>);

impl Log {
    pub(super) fn append(&self, event: Event) {
        if let Err(TrySendError::Full(_)) = self.0.try_send(Order::Append(event)) {
            metrics::counter!("trough_events_not_logged_total").increment(1);
        }
    }

    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.0.send(Order::Flush(done)).is_ok() {
            // The writer has ended: then there is nothing to wait for.
            let _ = wait.recv();
        }
    }
}

/// Reads what is there, the newest `kept`, and starts the writer.
pub(super) fn open(dir: &Path, kept: usize) -> io::Result<(VecDeque<Event>, Log)> {
    let mut ring = VecDeque::new();
    read(&dir.join(OLDER), kept, &mut ring)?;
    let newer = dir.join(NEWER);
    let lines = read(&newer, kept, &mut ring)?;
    let file = File::options().create(true).append(true).open(&newer)?;
    let (sender, orders) = sync_channel(WAITING);
    let mut writer = Writer { file: BufWriter::new(file), lines, kept, dir: dir.to_owned() };
    if lines > 0 {
        // A line that a killed process left unfinished ends here.
        writer.file.write_all(b"\n")?;
    }
    std::thread::Builder::new().name("trough-events".to_owned()).spawn(move || write(&mut writer, &orders))?;
    Ok((ring, Log(sender)))
}

/// Returns how many lines there are. Those that are no events, or of a kind that is not known here, are passed over.
fn read(path: &Path, kept: usize, ring: &mut VecDeque<Event>) -> io::Result<usize> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let mut lines = 0;
    for line in BufReader::new(file).split(b'\n') {
        let line = line?;
        lines += 1;
        if let Ok(event) = serde_json::from_slice(&line) {
            if ring.len() >= kept {
                ring.pop_front();
            }
            ring.push_back(event);
        }
    }
    Ok(lines)
}

struct Writer {
    file: BufWriter<File>,
    lines: usize,
    kept: usize,
    dir: PathBuf,
}

/// Writes until all handles are gone; after an error, which is said, nothing more.
fn write(writer: &mut Writer, orders: &Receiver<Order>) {
    let mut broken = false;
    while let Ok(first) = orders.recv() {
        let mut next = Some(first);
        while let Some(order) = next.take() {
            match order {
                Order::Append(event) if !broken => {
                    if let Err(error) = writer.append(&event) {
                        tracing::warn!(dir = %writer.dir.display(), %error, "cannot log segment events any more, a restart forgets them");
                        broken = true;
                    }
                }
                Order::Append(_) => {}
                Order::Flush(done) => {
                    // Whoever waited may have gone.
                    drop(writer.file.flush());
                    let _ = done.try_send(());
                }
            }
            next = orders.try_recv().ok();
        }
        if !broken && let Err(error) = writer.file.flush() {
            tracing::warn!(dir = %writer.dir.display(), %error, "cannot log segment events any more, a restart forgets them");
            broken = true;
        }
    }
}

impl Writer {
    fn append(&mut self, event: &Event) -> io::Result<()> {
        if self.lines >= self.kept {
            self.file.flush()?;
            fs::rename(self.dir.join(NEWER), self.dir.join(OLDER))?;
            self.file = BufWriter::new(File::options().create(true).append(true).open(self.dir.join(NEWER))?);
            self.lines = 0;
        }
        serde_json::to_writer(&mut self.file, event)?;
        self.file.write_all(b"\n")?;
        self.lines += 1;
        Ok(())
    }
}
