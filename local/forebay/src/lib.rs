//! The command line `forebay`, and what it shares with the local stack's own commands.
//!
//! Owns how a running pipeline is reached from outside (its addresses, the HTTP client, the Invoke API), how files become events,
//! and what is printed. Owns no rule about events, keys, blocks or letters: those are the functions', which say what they
//! refuse.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod access_log;
pub mod aggregates;
mod answers;
pub mod asking;
pub mod blocks;
pub mod client;
pub mod commands;
pub mod dead_letters;
mod dedup;
pub mod doctor;
pub mod ending;
pub mod function_call;
pub mod ingest_answer;
pub mod ingest_client;
pub mod kept_secret;
pub mod keys;
mod limits;
pub mod lines;
pub mod output;
pub mod place;
pub mod progress_file;
pub mod reconciliation;
pub mod records;
pub mod replays;
pub mod runs;
pub mod search;
pub mod sending;
pub mod session;
pub mod stats;
pub mod table;
pub mod tail;
pub mod time_range;
pub mod timeline;
pub mod topics;
pub mod webhooks;
