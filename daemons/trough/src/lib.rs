//! The program's command line ([`cli`]), the cluster on loopback ([`dev`]), the interactive shell ([`shell`]), the
//! check-up ([`doctor`]) and what people do to a cluster ([`admin`]). The roles themselves are libraries of their own.

pub mod admin;
pub mod cli;
pub mod dev;
pub mod doctor;
pub mod lifeline;
pub mod shell;
