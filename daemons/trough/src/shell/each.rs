//! SELECT on each connected segment. Answers are printed as segments end; what waits for its segment's end is bounded.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use trough_client::{Batch, QueryTemplate, SegmentSet, query::QueryEvent};
use trough_core::{SegmentId, Value};

use super::{
    output::Output,
    render::{Format, Sheet},
    session::{Session, Tally},
};

/// So few segments are shown in the order in which they were connected; more, as they come.
const IN_ORDER: usize = 100;
/// Bytes of rows that wait for their segment's end; more are shown without it.
const WAITING_BYTES: usize = 16 << 20;
/// How often progress is told while nothing comes.
pub(super) const TICK: Duration = Duration::from_millis(100);

impl Session {
    /// Runs a statement on every connected segment.
    pub(super) async fn query(&mut self, sql: &str, params: &[Value]) -> anyhow::Result<()> {
        self.need_segments()?;
        let began = Instant::now();
        let template = QueryTemplate { map: sql.to_owned(), params: params.to_vec(), ..QueryTemplate::default() };
        let mut options = self.query_options();
        options.tell_done = true;
        let mut printer = Printer::new(self);
        let mut tally = Tally::default();
        self.out.progress.begin(self.connected.count());
        let mut tick = tokio::time::interval(TICK);
        let mut pages = self.connected.pages(&self.discovery);
        while let Some(page) = pages.recv().await {
            let page = page?;
            printer.expect(&page);
            let mut stream = self.queries.fan_out(SegmentSet::Ids(page), template.clone(), options.clone());
            loop {
                let event = tokio::select! {
                    event = stream.next_event() => event,
                    _ = tick.tick() => {
                        let stats = stream.stats();
                        self.out.progress.tell(tally.segments + stats.done, tally.failed() + stats.failed);
                        continue;
                    }
                };
                match event.transpose()? {
                    Some(QueryEvent::Rows(batch)) => printer.rows(batch, &mut self.out)?,
                    Some(QueryEvent::Done(segments)) => printer.done(segments, &mut self.out)?,
                    None => break,
                }
            }
            let stats = stream.stats();
            tally.segments += stats.segments + stats.unknown;
            tally.left_out.add(stream.left_out().clone());
        }
        printer.end(&mut self.out)?;
        self.out.progress.end();
        tally.rows = printer.total;
        self.sum_up(&tally, began)
    }
}

/// Prints what each segment answers.
struct Printer {
    format: Format,
    colour: bool,
    several: bool,
    /// Where all rows form one result, or there is one segment.
    whole: Option<Sheet>,
    /// Segments that are yet to be shown, in order; none where the order does not matter.
    order: Option<VecDeque<SegmentId>>,
    done: HashSet<SegmentId>,
    waiting: HashMap<SegmentId, Vec<Batch>>,
    waiting_bytes: usize,
    /// Segments some of whose rows have been shown before their end.
    begun: HashSet<SegmentId>,
    total: u64,
    text: String,
}

impl Printer {
    fn new(session: &Session) -> Self {
        let several = session.connected.only().is_none();
        let flat = session.format.is_flat();
        Self {
            format: session.format,
            colour: session.out.colour,
            several,
            whole: (flat || !several).then(|| session.sheet()),
            order: (session.connected.count() <= IN_ORDER as u64).then(VecDeque::new),
            done: HashSet::new(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            begun: HashSet::new(),
            total: 0,
            text: String::new(),
        }
    }

    fn expect(&mut self, segments: &[SegmentId]) {
        if let Some(order) = &mut self.order {
            order.extend(segments.iter().cloned());
        }
    }

    fn rows(&mut self, batch: Batch, out: &mut Output) -> anyhow::Result<()> {
        self.total += u64::from(batch.count);
        if let Some(sheet) = &mut self.whole {
            print(sheet, &batch, self.several, &mut self.text)?;
            return Ok(out.take(&mut self.text)?);
        }
        let Some(segment) = batch.segment.clone() else { return Ok(()) };
        self.waiting_bytes += batch.data.len();
        self.waiting.entry(segment).or_default().push(batch);
        if self.waiting_bytes > WAITING_BYTES {
            let all: Vec<SegmentId> = self.waiting.keys().cloned().collect();
            for segment in all {
                self.show(&segment, out)?;
                self.begun.insert(segment);
            }
        }
        Ok(())
    }

    fn done(&mut self, segments: Vec<SegmentId>, out: &mut Output) -> anyhow::Result<()> {
        if self.whole.is_some() {
            return Ok(());
        }
        if self.order.is_none() {
            return segments.iter().try_for_each(|segment| self.close(segment, out));
        }
        self.done.extend(segments);
        while let Some(first) = self.order.as_ref().and_then(|order| order.front()).cloned() {
            if !self.done.remove(&first) {
                break;
            }
            self.order.as_mut().and_then(VecDeque::pop_front);
            self.close(&first, out)?;
        }
        Ok(())
    }

    /// Shows what has not been shown yet of a segment that has ended.
    fn close(&mut self, segment: &SegmentId, out: &mut Output) -> anyhow::Result<()> {
        if !self.begun.contains(segment) || self.waiting.contains_key(segment) {
            self.show(segment, out)?;
        }
        self.begun.remove(segment);
        Ok(())
    }

    fn show(&mut self, segment: &SegmentId, out: &mut Output) -> anyhow::Result<()> {
        let (what, name) = (if self.begun.contains(segment) { "further results" } else { "results" }, segment.as_str());
        self.text.push_str(&format!("+++++ {what} from segment {name} +++++\n"));
        let mut sheet = Sheet::new(self.format, self.colour);
        for batch in self.waiting.remove(segment).unwrap_or_default() {
            self.waiting_bytes -= batch.data.len();
            print(&mut sheet, &batch, false, &mut self.text)?;
            out.take(&mut self.text)?;
        }
        sheet.end(&mut self.text);
        Ok(out.take(&mut self.text)?)
    }

    fn end(&mut self, out: &mut Output) -> anyhow::Result<()> {
        if let Some(sheet) = &mut self.whole {
            sheet.end(&mut self.text);
            return Ok(out.take(&mut self.text)?);
        }
        // A segment that failed is never done, and those after it wait for it.
        for segment in self.order.take().unwrap_or_default() {
            if self.done.remove(&segment) {
                self.close(&segment, out)?;
            }
        }
        Ok(())
    }
}

/// Prints a batch's rows, each with its segment in front if that is wanted.
pub(super) fn print(sheet: &mut Sheet, batch: &Batch, with_segment: bool, text: &mut String) -> anyhow::Result<()> {
    let segment = batch.segment.as_ref().filter(|_| with_segment);
    match segment {
        None => {
            sheet.columns(&batch.columns, text);
            for row in trough_sync::rows::rows(batch)? {
                sheet.row(&row, text);
            }
        }
        Some(segment) => {
            let name = if batch.columns.iter().any(|c| c == "segment") { "_segment" } else { "segment" };
            let columns: Vec<String> = std::iter::once(name.to_owned()).chain(batch.columns.iter().cloned()).collect();
            sheet.columns(&columns, text);
            for row in trough_sync::rows::rows(batch)? {
                let row: Vec<Value> = std::iter::once(Value::Text(segment.to_string())).chain(row).collect();
                sheet.row(&row, text);
            }
        }
    }
    Ok(())
}
