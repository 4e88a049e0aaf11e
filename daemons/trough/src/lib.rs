//! The program's command line ([`cli`]), the cluster on loopback ([`dev`]), the interactive shell ([`shell`]), the check-up
//! ([`doctor`]) and the question whether a daemon is ready ([`health`]). The roles themselves are libraries of their own.

pub mod cli;
pub mod dev;
pub mod doctor;
pub mod health;
pub mod lifeline;
mod pages;
pub mod shell;
