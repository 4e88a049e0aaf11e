//! The program's command line ([`cli`]), the cluster on loopback ([`dev`]), the interactive shell ([`shell`]), the
//! check-up ([`doctor`]), the question whether a daemon is ready ([`health`]), what people do to a cluster ([`admin`]) and the
//! maker of tokens ([`token`]). The roles themselves are libraries of their own.

pub mod admin;
pub mod cli;
pub mod dev;
pub mod doctor;
pub mod health;
pub mod lifeline;
mod meta;
mod pages;
pub mod shell;
pub mod token;
