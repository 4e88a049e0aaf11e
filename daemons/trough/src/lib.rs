//! The program's command line ([`cli`]), the cluster on loopback ([`dev`]), the interactive shell ([`shell`]) and the
//! check-up ([`doctor`]). The roles themselves are libraries of their own.

pub mod cli;
pub mod dev;
pub mod doctor;
pub mod lifeline;
pub mod shell;
