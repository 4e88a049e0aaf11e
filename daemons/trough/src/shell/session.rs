//! One shell: what is connected, and what commands do. The commands themselves are in files of their own.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::{Context as _, bail};
use trough_client::{Discovery, QueryClient, QueryOptions, WriteClient, query::LeftOut};
use trough_core::{SchemaId, SegmentId, Trace, Value};

use super::{
    command::{Command, Segments},
    complete::Known,
    connected::Connected,
    help,
    output::{Closed, Output, Paging},
    render::{Format, Sheet},
};

/// Bytes of rows that a query's requests hold back together.
const HELD_BYTES: usize = 32 << 20;

/// One shell: its connections to the cluster and what was said so far.
pub(super) struct Session {
    pub discovery: Discovery,
    pub queries: QueryClient,
    pub writes: WriteClient,
    pub connected: Connected,
    /// Of the command's last query, for its error.
    pub trace: Mutex<Option<Trace>>,
    pub writable: bool,
    pub schema: SchemaId,
    pub format: Format,
    pub timing: bool,
    /// Whether what cannot be undone is done without asking.
    pub yes: bool,
    pub out: Output,
    /// What completion may offer.
    pub known: Arc<Mutex<Known>>,
}

/// Whether the shell goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Quit,
    /// The command waits for this question to be answered with yes.
    Confirm(String),
}

/// What became of a query's segments.
#[derive(Default)]
pub(super) struct Tally {
    pub rows: u64,
    pub segments: u64,
    pub left_out: LeftOut,
}

impl Tally {
    pub(super) fn failed(&self) -> u64 {
        self.left_out.failed + self.left_out.unknown
    }
}

impl Session {
    /// What stands before the cursor.
    pub(super) fn prompt(&self) -> String {
        let mode = if self.writable { "rw" } else { "ro" };
        match (self.connected.count(), self.connected.only()) {
            (0, _) => "trough".to_owned(),
            (_, Some(one)) => format!("trough:{one}({mode})"),
            (many, None) => format!("trough:[{many} segments]({mode})"),
        }
    }

    /// Does what a command says. `confirmed`: what it may ask has been answered with yes.
    ///
    /// # Errors
    /// With a text for the user, or [`Closed`]; the session goes on.
    pub(super) async fn execute(&mut self, command: &Command, confirmed: bool) -> anyhow::Result<Next> {
        self.out.begin();
        self.asked(None);
        let next = match self.dispatch(command, confirmed).await {
            Ok(next) => next,
            Err(error) => {
                // What came before the error is shown.
                let _ = self.out.end();
                return Err(match self.asked(None) {
                    Some(trace) if !error.is::<Closed>() => anyhow::anyhow!("{error:#} (trace {})", trace.id()),
                    _ => error,
                });
            }
        };
        self.out.end()?;
        self.tell_completion(command);
        Ok(next)
    }

    /// A command was dropped before its end.
    pub(super) fn cancel(&mut self) {
        let _ = self.out.end();
    }

    async fn dispatch(&mut self, command: &Command, confirmed: bool) -> anyhow::Result<Next> {
        match command {
            Command::Quit => return Ok(Next::Quit),
            Command::Help(None) => self.out.write(&help::overview())?,
            Command::Help(Some(name)) => match help::topic(name) {
                Some(topic) => self.out.write(&topic.text())?,
                None => bail!("no help on {name:?}; HELP alone shows all commands"),
            },
            Command::Wrong(why) => bail!("{why}"),
            Command::Format(None) => self.say(format_args!("format is {}", self.format.name()))?,
            Command::Format(Some(name)) => {
                self.format = Format::named(name);
                self.say(format_args!("format is now {}", self.format.name()))?;
            }
            Command::Timing(on) => {
                self.timing = on.unwrap_or(!self.timing);
                self.say(format_args!("timing is {}", if self.timing { "on" } else { "off" }))?;
            }
            Command::Pager(named) => {
                if let Some(name) = named {
                    self.out.paging = Paging::named(name);
                }
                self.say(format_args!("pager is {}", self.out.paging.name().to_owned()))?;
            }
            Command::ShowTables => self.show_tables().await?,
            Command::ShowCreateTable(name) => self.show_create_table(name.as_deref()).await?,
            Command::ShowSchemas => self.show_schemas().await?,
            Command::ShowSchema(name) => self.show_schema(name).await?,
            Command::ShowSegments(pattern) => self.show_segments(pattern.as_deref()).await?,
            Command::ShowConnections => self.show_connections().await?,
            Command::ShowWorkers => self.show_workers().await?,
            Command::ShowLocks => self.show_locks().await?,
            Command::Connect(segments) => self.connect(segments).await?,
            Command::Provision(ids) => self.provision(ids).await?,
            Command::Promote(which) => self.promote(which.as_ref()).await?,
            Command::Shred(ids) => return self.shred(ids, confirmed).await,
            Command::Register { schema, file } => self.register(schema, file).await?,
            Command::Infile(file) => {
                let sql = std::fs::read_to_string(file).with_context(|| format!("read {file}"))?;
                self.write(&sql).await?;
            }
            Command::Query(sql) => self.query(sql, &[]).await?,
            Command::Merge(sql) => self.merge(sql).await?,
            Command::Write(sql) => self.write(sql).await?,
        }
        Ok(Next::Continue)
    }

    fn tell_completion(&self, command: &Command) {
        let Ok(mut known) = self.known.lock() else { return };
        let first = self.connected.first();
        let changed = matches!(command, Command::Write(_) | Command::Infile(_));
        if changed || known.first.as_ref() != first {
            *known = Known { first: first.cloned(), ..Known::default() };
        }
    }

    pub(super) fn say(&mut self, what: std::fmt::Arguments<'_>) -> Result<(), Closed> {
        self.out.write(&format!("{what}\n"))
    }

    pub(super) fn need_writable(&self, what: &str) -> anyhow::Result<()> {
        if !self.writable {
            bail!("{what} is not possible in read-only mode; start the shell with -w");
        }
        Ok(())
    }

    pub(super) fn need_segments(&self) -> anyhow::Result<()> {
        if self.connected.count() == 0 {
            bail!("not connected to any segments; CONNECT to one first");
        }
        Ok(())
    }

    pub(super) fn sheet(&self) -> Sheet {
        Sheet::new(self.format, self.out.colour)
    }

    /// Prints rows that are at hand.
    pub(super) fn print_rows(&mut self, columns: &[&str], rows: Vec<Vec<Value>>) -> Result<(), Closed> {
        let (mut sheet, mut text) = (self.sheet(), String::new());
        let names: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        sheet.columns(&names, &mut text);
        for row in &rows {
            sheet.row(row, &mut text);
            self.out.take(&mut text)?;
        }
        sheet.end(&mut text);
        self.out.take(&mut text)
    }

    /// A trace for what is asked now; errors name it, as the workers' logs do.
    fn new_trace(&self) -> Trace {
        let trace = trough_http::new_trace();
        self.asked(Some(trace));
        trace
    }

    /// Notes the trace of what is asked; gives the one before.
    fn asked(&self, trace: Option<Trace>) -> Option<Trace> {
        std::mem::replace(&mut *self.trace.lock().unwrap_or_else(std::sync::PoisonError::into_inner), trace)
    }

    /// How segments are asked.
    pub(super) fn query_options(&self) -> QueryOptions {
        QueryOptions {
            // Alone, a segment's failure is the query's; among others, it is counted.
            skip_failed: self.connected.only().is_none(),
            unknown_is_error: self.connected.only().is_some(),
            buffer_bytes: HELD_BYTES,
            trace: Some(self.new_trace()),
            ..QueryOptions::default()
        }
    }

    /// Says how many rows there were and how long it took, then which segments failed.
    ///
    /// # Errors
    /// If any failed.
    pub(super) fn sum_up(&mut self, tally: &Tally, began: Instant) -> anyhow::Result<()> {
        let (rows, failed) = (tally.rows, tally.failed());
        let mut text = format!("{rows} total results");
        if tally.segments > 1 {
            text.push_str(&format!(" from {} segments", tally.segments - failed.min(tally.segments)));
        }
        if failed > 0 {
            text.push_str(&format!(" ({failed} failed)"));
        }
        if self.timing {
            text.push_str(&format!(" in {}", duration(began.elapsed())));
        }
        if self.format == Format::Table {
            self.say(format_args!("{text}"))?;
        } else if self.out.interactive {
            self.out.end()?;
            self.out.note(&text);
        }
        if failed == 0 {
            return Ok(());
        }
        self.out.end()?;
        let named = tally.left_out.failures.len() + tally.left_out.unknown_ids.len();
        for (_, why) in &tally.left_out.failures {
            self.out.error(&why.to_string());
        }
        for segment in &tally.left_out.unknown_ids {
            self.out.error(&format!("segment {segment}: there is no such segment"));
        }
        let more = failed - (named as u64).min(failed);
        let and = if more > 0 { format!("; {more} more are not named") } else { String::new() };
        bail!("{failed} of {} segments failed{and}", tally.segments.max(failed));
    }

    async fn connect(&mut self, segments: &Segments) -> anyhow::Result<()> {
        self.connected = match segments {
            Segments::Ids(ids) => Connected::Ids(parse_ids(ids)?),
            Segments::Matching(pattern) => {
                let began = Instant::now();
                let connected = Connected::matching(&self.discovery, pattern).await?;
                if self.out.interactive {
                    let took = duration(began.elapsed());
                    self.say(format_args!("{} segments match, found in {took}", connected.count()))?;
                }
                connected
            }
        };
        Ok(())
    }

    async fn write(&mut self, sql: &str) -> anyhow::Result<()> {
        if !self.writable {
            bail!("writing is not possible in read-only mode; start the shell with -w");
        }
        self.need_segments()?;
        let Some(segment) = self.connected.only() else { bail!("writing to multiple segments is not supported") };
        let began = Instant::now();
        self.writes.write_script(segment, sql).await?;
        let took = if self.timing { format!(" in {}", duration(began.elapsed())) } else { String::new() };
        self.say(format_args!("OK{took}"))?;
        Ok(())
    }
}

/// A time for people.
pub(super) fn duration(time: std::time::Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

/// Ids as typed, each once.
pub(super) fn parse_ids(ids: &[String]) -> anyhow::Result<Vec<SegmentId>> {
    let mut seen = HashSet::with_capacity(ids.len());
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        let id = SegmentId::new(id)?;
        if seen.insert(id.clone()) {
            all.push(id);
        }
    }
    Ok(all)
}
