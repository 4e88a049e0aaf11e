//! The version of what nodes say to each other, in requests and in records.
//!
//! A node's row carries the version that it speaks; a row without one is of version 1. Every request and answer carries it in
//! [`PROTOCOL_HEADER`]. Fields that a version does not know are ignored where their sender speaks a newer one; a request that
//! must not be half understood says so in [`NEEDS_HEADER`].

/// The version that this program speaks.
///
/// | version | adds |
/// |---|---|
/// | 1 | everything before versions were told |
/// | 2 | node rows: `protocol`, `version`, `stopping`; the document `controls`; `/v1/scrub` and `/v1/restore` of workers; unknown fields are ignored |
pub const PROTOCOL: u32 = 2;
/// What a node speaks that does not say it.
pub const FIRST_PROTOCOL: u32 = 1;
/// The header that carries the sender's version, in requests and in answers.
pub const PROTOCOL_HEADER: &str = "x-trough-protocol";
/// The header of a request that only nodes of this version or a later one may answer.
pub const NEEDS_HEADER: &str = "x-trough-needs";
/// The lowest version of workers that can be asked to scrub.
pub const SCRUBS_SINCE: u32 = 2;
