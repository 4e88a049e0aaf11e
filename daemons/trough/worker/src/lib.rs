//! The worker: keeps copies of segments, serves them, takes writes, promotes them to the canonical store.
//!
//! On disk: the segment files in LOCAL_DATA, one lock file (so that two workers cannot share a directory), a directory of
//! broken copies (`quarantine`), and what [`stranded`] says.
//! Everything else is rebuilt at start from one reading of the directory and from RethinkDB: what is assigned here, which
//! locks exist, what is advertised.

mod advertise;
mod busy;
mod cold;
mod collect;
mod controls;
mod copies;
mod decide;
mod files;
mod follow;
mod fresh;
mod heal;
mod lease;
mod locks;
mod manage;
mod meters;
mod orphans;
mod promote;
mod promotions;
mod provision;
mod python;
mod quarantine;
mod read;
mod reconcile;
mod request;
mod scrub;
mod start;
mod state;
mod status;
mod stranded;
mod system;
mod tenure;
mod told;
mod undo;
mod write;

pub use start::{Addresses, run};
