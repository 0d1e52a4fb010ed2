//! The whole pipeline on one machine: backing services, function binaries, event source mappings, and a demo that
//! accounts for every event.
//!
//! Owns what is started in which order, with which settings, and how it is stopped. The services are in `services`,
//! the hosting of functions in `host`, the mappings in `esm`, and every rule about events in the functions.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod archived;
pub mod backing;
pub mod commands;
pub mod demo;
pub mod endpoints;
pub mod functions;
pub mod gateway;
mod listed;
mod log_content;
pub mod mappings;
pub mod minutes;
pub mod observe;
pub mod options;
pub mod progress;
pub mod reconcile;
pub mod schedule;
pub mod stack;
pub mod usage;
pub mod watch;

pub use forebay::{client, output, session};
