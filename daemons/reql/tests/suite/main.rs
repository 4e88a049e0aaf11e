//! The crate through its public face.

mod faults;
mod queries;
mod support;
mod terms;
mod tls;
