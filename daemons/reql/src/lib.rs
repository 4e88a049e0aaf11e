//! RethinkDB's protocol on tokio: [`proto`] is what travels, for clients and servers alike.

pub mod proto;
