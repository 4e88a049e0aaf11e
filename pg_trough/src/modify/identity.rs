//! What tells one row of a segment from another between the scan that found it and the write that changes it: its rowid, or the
//! columns with the option `key`; and 64 bits of its values, so that a row that somebody changed meanwhile is noticed.
//!
//! Both travel through PostgreSQL's plans as system columns, which are free: nothing of the kind is stored here.
//!
//! | system column | holds |
//! |---|---|
//! | ctid (its block number) | the rowid's low 32 bits |
//! | xmin | its high 32 bits |
//! | xmax | the fingerprint's low 32 bits |
//! | cmin | its high 32 bits |

use pgrx::{pg_guard, pg_sys};
use trough_pushdown::quote_identifier;

use super::target::Attributes;
use crate::{
    pg,
    table::{self, ForeignTable},
};

/// How rows are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// By the rowid, under this name.
    Rowid(&'static str),
    /// By these columns.
    Keys(Vec<usize>),
}

/// The junk columns of a plan that changes rows. The names are those under which the executor finds them.
const ROW_LOW: &str = "trough_row_low";
const ROW_HIGH: &str = "trough_row_high";
const PRINT_LOW: &str = "trough_print_low";
const PRINT_HIGH: &str = "trough_print_high";

/// The junk column for a column of the table. Partitions share junk columns of one name, so it says all that a variable says.
unsafe fn column_name(desc: pg_sys::TupleDesc, index: usize) -> String {
    // SAFETY: the column is one of the tuple's.
    unsafe {
        let attribute = crate::compat::attribute(desc, index);
        let type_oid = u32::from((*attribute).atttypid);
        let collation = u32::from((*attribute).attcollation);
        format!("trough_{}_{type_oid}_{}_{collation}", index + 1, (*attribute).atttypmod)
    }
}

impl Identity {
    /// How a table's rows are told apart.
    pub(crate) fn of(table: &ForeignTable) -> Self {
        if !table.keys.is_empty() {
            return Self::Keys(table.keys.clone());
        }
        // A column of that name would hide the rowid.
        let hidden = |name: &str| table.table.columns.iter().flatten().any(|c| c.name.eq_ignore_ascii_case(name));
        Self::Rowid(["_rowid_", "rowid", "oid"].into_iter().find(|name| !hidden(name)).unwrap_or("_rowid_"))
    }

    /// What a scan reads for it: the rowid, if rows have one that counts, and the fingerprint.
    pub(crate) fn columns(&self, table: &ForeignTable) -> Vec<String> {
        match self {
            Self::Rowid(name) => vec![(*name).to_owned(), fingerprint(table)],
            Self::Keys(_) => vec![fingerprint(table)],
        }
    }
}

/// The fingerprint of a row's columns, as far as the foreign table declares them.
pub(crate) fn fingerprint(table: &ForeignTable) -> String {
    // SQLite takes 127 arguments.
    const MOST: usize = 100;
    let columns = table.table.columns.iter().flatten().filter(|c| !c.segment);
    let mut list: Vec<_> = columns.map(|c| quote_identifier(&c.name)).collect();
    while list.len() > MOST {
        list = list.chunks(MOST).map(|part| format!("trough_fingerprint({})", part.join(", "))).collect();
    }
    format!("trough_fingerprint({})", list.join(", "))
}

/// `AddForeignUpdateTargets`
#[pg_guard]
pub(crate) unsafe extern "C-unwind" fn add_foreign_update_targets(
    root: *mut pg_sys::PlannerInfo,
    rtindex: pg_sys::Index,
    _rte: *mut pg_sys::RangeTblEntry,
    relation: pg_sys::Relation,
) {
    // SAFETY: the planner's structures.
    unsafe {
        let table = table::load((*relation).rd_id);
        // Without a segment column it cannot be written, as IsForeignRelUpdatable will say.
        let Some(segment) = table.table.segment_column() else { return };
        let add = |attribute: i16, name: &str, type_oid, typmod, collation| {
            let var = pg_sys::makeVar(rtindex as _, attribute, type_oid, typmod, collation, 0);
            pg_sys::add_row_identity_var(root, var, rtindex, pg::pstrdup(name));
        };
        let column = |index: usize| {
            let attribute = crate::compat::attribute((*relation).rd_att, index);
            let (type_oid, typmod) = ((*attribute).atttypid, (*attribute).atttypmod);
            let name = column_name((*relation).rd_att, index);
            add(index as i16 + 1, &name, type_oid, typmod, (*attribute).attcollation);
        };
        let system = |attribute: i32, name: &str, type_oid: pg_sys::Oid| {
            add(attribute as i16, name, type_oid, -1, pg_sys::InvalidOid);
        };
        column(segment);
        match Identity::of(&table) {
            Identity::Rowid(_) => {
                system(pg_sys::SelfItemPointerAttributeNumber, ROW_LOW, pg_sys::TIDOID);
                system(pg_sys::MinTransactionIdAttributeNumber, ROW_HIGH, pg_sys::XIDOID);
            }
            Identity::Keys(keys) => keys.iter().for_each(|key| column(*key)),
        }
        system(pg_sys::MaxTransactionIdAttributeNumber, PRINT_LOW, pg_sys::XIDOID);
        system(pg_sys::MinCommandIdAttributeNumber, PRINT_HIGH, pg_sys::CIDOID);
        // What DELETE returns is the row as it was read.
        if (*(*root).parse).commandType == pg_sys::CmdType::CMD_DELETE && !(*(*root).parse).returningList.is_null() {
            add(0, "wholerow", pg_sys::RECORDOID, -1, pg_sys::InvalidOid);
        }
    }
}

/// Whether the scan of a relation must give its rows' identity, by the attributes that are read of it (offset as in
/// `pull_varattnos`).
///
/// # Safety
/// The planner's structures.
pub(crate) unsafe fn is_wanted(
    root: *mut pg_sys::PlannerInfo,
    relid: pg_sys::Index,
    used: *mut pg_sys::Bitmapset,
) -> bool {
    let print = pg_sys::MaxTransactionIdAttributeNumber - pg_sys::FirstLowInvalidHeapAttributeNumber;
    // SAFETY: as for the caller.
    unsafe { pg_sys::bms_is_member(relid as i32, (*root).all_result_relids) && pg_sys::bms_is_member(print, used) }
}

/// Makes the tuple of a row with its identity in the system columns.
///
/// # Safety
/// The slot's arrays hold every attribute.
pub(crate) unsafe fn store(slot: *mut pg_sys::TupleTableSlot, rowid: i64, print: i64) {
    // SAFETY: as for the caller; the tuple lies in per-tuple memory, which lives as long as the slot's contents.
    unsafe {
        let tuple = pg_sys::heap_form_tuple((*slot).tts_tupleDescriptor, (*slot).tts_values, (*slot).tts_isnull);
        let low = rowid as u32;
        (*tuple).t_self.ip_blkid.bi_hi = (low >> 16) as u16;
        (*tuple).t_self.ip_blkid.bi_lo = low as u16;
        (*tuple).t_self.ip_posid = 1;
        (*tuple).t_tableOid = (*slot).tts_tableOid;
        let header = (*tuple).t_data;
        (*header).t_choice.t_heap.t_xmin = pg_sys::TransactionId::from((rowid >> 32) as u32);
        (*header).t_choice.t_heap.t_xmax = pg_sys::TransactionId::from(print as u32);
        (*header).t_choice.t_heap.t_field3.t_cid = (print >> 32) as u32;
        (*header).t_ctid = (*tuple).t_self;
        pg_sys::ExecStoreHeapTuple(tuple, slot, false);
    }
}

/// Where a plan's rows have the identity of the row that they change.
pub(crate) struct Junk {
    segment: usize,
    rowid: Option<(usize, usize)>,
    /// The keys: their columns' indexes, and where they are.
    pub(crate) keys: Vec<(usize, usize)>,
    print: (usize, usize),
    whole: Option<usize>,
}

impl Junk {
    /// Finds the junk columns.
    ///
    /// # Safety
    /// The target list is the executor's, of a plan whose targets [`add_foreign_update_targets`] added; the descriptor is the
    /// table's.
    pub(crate) unsafe fn find(
        tlist: *mut pg_sys::List,
        desc: pg_sys::TupleDesc,
        table: &ForeignTable,
        segment: usize,
        identity: &Identity,
    ) -> Self {
        let find = |name: &str| {
            let name = pg::cstring(name);
            // SAFETY: as for the caller; 0 stands for none.
            let attribute = unsafe { pg_sys::ExecFindJunkAttributeInTlist(tlist, name.as_ptr()) };
            usize::try_from(attribute).ok()?.checked_sub(1)
        };
        let must = |name: &str| {
            find(name).unwrap_or_else(|| {
                let relation = pg::relation_name(table.relid);
                super::unsupported(&format!("a plan without the column {name}"), &relation).raise()
            })
        };
        // SAFETY: the columns are the table's.
        let column = |index: usize| must(&unsafe { column_name(desc, index) });
        let (rowid, keys) = match identity {
            Identity::Rowid(_) => (Some((must(ROW_LOW), must(ROW_HIGH))), Vec::new()),
            Identity::Keys(keys) => (None, keys.iter().map(|key| (*key, column(*key))).collect()),
        };
        let print = (must(PRINT_LOW), must(PRINT_HIGH));
        Self { segment: column(segment), rowid, keys, print, whole: find("wholerow") }
    }

    /// The name of a row's segment.
    ///
    /// # Safety
    /// The plan's row.
    pub(crate) unsafe fn segment(&self, row: &Attributes) -> Option<String> {
        // SAFETY: the column is a text.
        unsafe { row.text(self.segment) }
    }

    /// A row's rowid, where that is its identity.
    ///
    /// # Safety
    /// The plan's row.
    pub(crate) unsafe fn rowid(&self, row: &Attributes) -> Option<i64> {
        let (low, high) = self.rowid?;
        let (low, high) = (row.get(low)?, row.get(high)?);
        // SAFETY: the low half is an item pointer.
        let low = unsafe {
            let block = (*low.cast_mut_ptr::<pg_sys::ItemPointerData>()).ip_blkid;
            u32::from(block.bi_hi) << 16 | u32::from(block.bi_lo)
        };
        Some((u64::from(high.value() as u32) << 32 | u64::from(low)) as i64)
    }

    /// A row's fingerprint.
    pub(crate) fn print(&self, row: &Attributes) -> Option<i64> {
        let (low, high) = (row.get(self.print.0)?, row.get(self.print.1)?);
        Some((u64::from(high.value() as u32) << 32 | u64::from(low.value() as u32)) as i64)
    }

    /// The whole row as it was read, where the plan has it.
    pub(crate) fn whole(&self, row: &Attributes) -> Option<pg_sys::Datum> {
        row.get(self.whole?)
    }
}
