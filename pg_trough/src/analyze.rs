//! ANALYZE: segments are sampled, their rows counted and sampled there, and the numbers scaled up to all segments.
//!
//! Every segment is as likely as any other, and each row of a sampled segment is as likely as any other; so the sample stands for all
//! rows. What it cannot show is how many segments there are: a column that differs by segment looks as if it had as many values as
//! segments were sampled (`ALTER FOREIGN TABLE … ALTER COLUMN … SET (n_distinct = …)` says better).

use std::{
    cell::RefCell,
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
};

use pgrx::{PgLogLevel, PgSqlErrorCode, pg_guard, pg_sys, pg_sys::panic::ErrorReport};
use trough_client::{QueryTemplate, SegmentPattern, SegmentSet};
use trough_core::SegmentId;
use trough_pushdown::{Order, Scope, quote_identifier, statement};

use crate::{
    cluster::{self, Cluster, Rows},
    compat,
    decode::{self, Arena, Decoder, Item, Reader},
    guc, pg,
    plandata::Wanted,
    relation,
    segments::segment_datum,
    table::{self, ForeignTable, Limits, OnFault},
};

/// What was counted of a table, until its rows are sampled.
struct Census {
    /// The sampled segments.
    sampled: Vec<SegmentId>,
    /// Rows in them.
    counted: f64,
    /// Segments there are.
    segments: usize,
}

impl Census {
    /// Rows there are.
    fn rows(&self) -> f64 {
        if self.sampled.is_empty() { 0.0 } else { self.counted / self.sampled.len() as f64 * self.segments as f64 }
    }
}

thread_local! {
    static COUNTED: RefCell<HashMap<pg_sys::Oid, Census>> = RefCell::default();
}

/// `AnalyzeForeignTable`: counts.
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn analyze_foreign_table(
    relation: pg_sys::Relation,
    sample: *mut pg_sys::AcquireSampleRowsFunc,
    pages: *mut pg_sys::BlockNumber,
) -> bool {
    // SAFETY: ANALYZE's open relation and places for the answers.
    unsafe {
        let table = table::load((*relation).rd_id);
        let cluster = cluster::of(table.server, (*(*relation).rd_rel).relowner);
        let census = count(&table, &cluster);
        // A page is what PostgreSQL would fill with rows of this width.
        let width = (0..(*(*relation).rd_att).natts as usize)
            .map(|i| compat::attribute((*relation).rd_att, i))
            .filter(|attribute| !(**attribute).attisdropped)
            .map(|attribute| f64::from(pg_sys::get_typavgwidth((*attribute).atttypid, (*attribute).atttypmod)))
            .sum::<f64>();
        *pages = (census.rows() * (width + 28.0) / f64::from(pg_sys::BLCKSZ)).ceil().clamp(1.0, 4e9) as u32;
        *sample = Some(acquire_sample_rows);
        COUNTED.with_borrow_mut(|counted| counted.insert(table.relid, census));
        true
    }
}

fn count(table: &ForeignTable, cluster: &Cluster) -> Census {
    let pattern = table.segment_pattern().unwrap_or(SegmentPattern::All);
    let mut all = cluster.list(pattern);
    let segments = all.len();
    let most = guc::ANALYZE_SEGMENTS.get() as usize;
    Random::new().sample(&mut all, most);
    let map = format!("SELECT count(*) FROM {}", quote_identifier(&table.table.name));
    let mut counted = 0.0;
    let mut read = |item: Item<'_>| match item {
        Item::Integer(n) => counted += n as f64,
        _ => decode::garbage(&table.table.name, None, "a count is no integer").raise(),
    };
    if let Some(mut rows) = ask(table, cluster, &all, map) {
        while let Some(batch) = rows.next() {
            let mut reader = Reader::new(&batch.data, 0);
            (0..batch.count).filter_map(|_| reader.next()).for_each(&mut read);
        }
    }
    Census { sampled: all, counted, segments }
}

fn ask(table: &ForeignTable, cluster: &Cluster, ids: &[SegmentId], map: String) -> Option<Rows> {
    let template = QueryTemplate { map, ..QueryTemplate::default() };
    // Limits are for queries; a segment that was shredded since it was listed has no rows.
    let limits = Limits { max_rows: None, max_bytes: None, on_missing: OnFault::Skip, ..table.limits };
    let relation = format!("ANALYZE {}", pg::relation_name(table.relid));
    (!ids.is_empty())
        .then(|| cluster.ask(&relation, SegmentSet::Ids(ids.to_vec()), template, Wanted::All, limits, false))
}

/// Samples rows, at most `wanted`.
#[pg_guard]
unsafe extern "C-unwind" fn acquire_sample_rows(
    relation: pg_sys::Relation,
    level: i32,
    rows: *mut pg_sys::HeapTuple,
    wanted: i32,
    total: *mut f64,
    dead: *mut f64,
) -> i32 {
    // SAFETY: ANALYZE's open relation; `rows` has room for `wanted`.
    unsafe {
        let table = table::load((*relation).rd_id);
        let cluster = cluster::of(table.server, (*(*relation).rd_rel).relowner);
        let known = COUNTED.with_borrow_mut(|counted| counted.remove(&table.relid));
        let census = known.unwrap_or_else(|| count(&table, &cluster));
        *total = census.rows();
        *dead = 0.0;
        let wanted = usize::try_from(wanted).unwrap_or(0);
        let room = std::slice::from_raw_parts_mut(rows, wanted);
        let taken = sample(relation, &table, &cluster, &census, room);
        let message = format!(
            "\"{}\": asked {} of {} segments, containing {:.0} rows; {taken} rows in sample, {:.0} estimated total rows",
            pg::relation_name(table.relid),
            census.sampled.len(),
            census.segments,
            census.counted,
            census.rows(),
        );
        let level = if level == pg_sys::INFO as i32 { PgLogLevel::INFO } else { PgLogLevel::DEBUG2 };
        ErrorReport::new(PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION, message, "pg_trough").report(level);
        taken as i32
    }
}

/// Fills `room` with rows of the sampled segments; how many.
unsafe fn sample(
    relation: pg_sys::Relation,
    table: &ForeignTable,
    cluster: &Cluster,
    census: &Census,
    room: &mut [pg_sys::HeapTuple],
) -> usize {
    let scope = Scope::of([&table.table]);
    let mut decoders: Vec<(usize, Option<Decoder>)> = Vec::new();
    let mut columns = Vec::new();
    for (index, column) in table.table.columns.iter().enumerate() {
        let Some(column) = column else { continue };
        if column.segment {
            decoders.push((index, None));
        } else {
            columns.push(index);
            decoders.push((index, Some(Decoder::new(relation::stored(column, table.typmods[index])))));
        }
    }
    // A little more than wanted, so that chance seldom leaves too few; what is too much goes again.
    const UNIT: f64 = (1u64 << 32) as f64;
    let share = (room.len() as f64 * 1.05 + 50.0) / census.counted.max(1.0);
    let condition = format!("(random() & 4294967295) < {}", (share * UNIT).ceil().min(UNIT) as u64);
    let conditions = if share >= 1.0 { Vec::new() } else { vec![condition] };
    let from = quote_identifier(&table.table.name);
    let scanned = statement::scan(&from, &scope, &columns, &conditions, &[], &Order::default());
    let Some(mut answer) = ask(table, cluster, &census.sampled, scanned.statement.map) else { return 0 };
    let mut arena = Arena::default();
    let mut random = Random::new();
    // SAFETY: the relation is open; each tuple is a copy in ANALYZE's memory context.
    unsafe {
        let natts = (*(*relation).rd_att).natts as usize;
        let mut seen = 0u64;
        let mut taken = 0;
        while let Some(batch) = answer.next() {
            let name = batch.segment.as_ref().map(|s| s.as_str().to_owned()).unwrap_or_default();
            let segment = segment_datum(&name);
            arena.reserve(batch.data.len(), scanned.width);
            let mut reader = Reader::new(&batch.data, 0);
            for _ in 0..batch.count {
                arena.reset();
                let (mut values, mut nulls) = (vec![pg_sys::Datum::from(0); natts], vec![true; natts]);
                for (index, decoder) in &mut decoders {
                    let datum = match decoder {
                        None => Some(segment),
                        Some(decoder) => {
                            let item = reader.next().unwrap_or_else(|| {
                                decode::garbage(&table.table.name, Some(&name), "the rows end early").raise()
                            });
                            decoder.decode(item, &mut arena).unwrap_or_else(|why| {
                                decode::unfit(&why, decoder.stored(), &table.table.name, Some(&name)).raise()
                            })
                        }
                    };
                    if let Some(datum) = datum {
                        values[*index] = datum;
                        nulls[*index] = false;
                    }
                }
                if columns.is_empty() {
                    reader.next();
                }
                // Vitter's algorithm R: each row that came is as likely as any other to stay.
                seen += 1;
                let place = if taken < room.len() { taken as u64 } else { random.below(seen) };
                if place < room.len() as u64 {
                    let tuple = pg_sys::heap_form_tuple((*relation).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
                    let place = place as usize;
                    if place < taken {
                        pg_sys::heap_freetuple(room[place]);
                    } else {
                        taken += 1;
                    }
                    room[place] = tuple;
                }
            }
            pg_sys::pfree(segment.cast_mut_ptr());
            pgrx::check_for_interrupts!();
        }
        taken
    }
}

/// Numbers that need to be no more than spread (SplitMix64).
pub(crate) struct Random(u64);

impl Random {
    /// Begins anywhere.
    pub(crate) fn new() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }

    /// Keeps at most so many of the items, each as likely as any other; how many.
    pub(crate) fn sample<T>(&mut self, items: &mut Vec<T>, most: usize) -> usize {
        let count = items.len();
        for i in 0..most.min(count) {
            items.swap(i, i + self.below((count - i) as u64) as usize);
        }
        items.truncate(most);
        items.len()
    }

    /// A number below a limit above 0.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(limit)) >> 64) as u64
    }
}
