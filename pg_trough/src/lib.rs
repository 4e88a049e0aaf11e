//! The PostgreSQL extension: foreign tables whose rows live in many SQLite databases (*segments*).
//!
//! Planning reads the foreign table's options ([`table`]), turns conditions into the expressions of `trough_pushdown`
//! ([`walk`]), and decides what runs where ([`plan`], [`relation`], [`upper`]). A plan holds SQL, bound values and conditions on
//! segments, never a segment's or a worker's address ([`plandata`]). Execution ([`scan`], [`modify`]) asks the cluster
//! through one runtime thread per backend ([`runtime`], [`cluster`]).
//!
//! Only the backend's own thread calls PostgreSQL.

// The callbacks take raw pointers that PostgreSQL guarantees; their contracts are PostgreSQL's.
#![allow(clippy::missing_safety_doc)]

pgrx::pg_module_magic!();

mod activity;
mod aggfn;
mod analyze;
mod append;
mod cluster;
mod compat;
mod decode;
mod encode;
mod errors;
mod estimate;
mod explain;
mod fdw;
mod functions;
mod guc;
mod import;
mod inspect;
mod join;
mod manage;
mod memory;
mod modify;
mod options;
mod order;
mod pg;
mod plan;
mod plandata;
mod python;
mod relation;
mod replay;
mod rows;
mod runtime;
mod scan;
mod segments;
mod state;
mod table;
mod trace;
mod upper;
mod walk;
mod warn;
mod zones;

/// Called once when the library is loaded into a process.
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    // Errors of PostgreSQL pass through Rust as panics; a backtrace in each of them would cost time and tell nobody.
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        // SAFETY: the library is loaded by the process's only thread.
        unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
    }
    guc::register();
    join::lookup::register();
}
