//! The fault suite: breaks the running pipeline on purpose and checks that nothing is lost and nothing is done twice.
//!
//! Owns the load and its ledger, the faults, and the checker. The checker shares no code with the pipeline: it reads
//! Kafka, Postgres and the archive itself, so that a bug in our readers cannot hide a bug in our writers.
//! `stack` owns how the pipeline is started, and `services` how a service is killed.

pub mod disk;
pub mod evidence;
pub mod ledger;
pub mod load;
pub mod memory;
pub mod name;
pub mod proxy;
pub mod report;
pub mod rescoring;
pub mod scenarios;
pub mod statistics;
pub mod trial;
pub mod verdict;
pub mod webhooks;
