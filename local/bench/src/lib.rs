//! Measures the pipeline: the real binaries, Apache Kafka and a real PostgreSQL on this machine.
//!
//! Owns the load, what is measured and how it is summed up. Leaves starting and stopping to `stack`.
//!
//! CPU is what the kernel charges to the process under test, so figures per CPU-second hardly depend on what else the
//! machine does. Figures by the clock do: broker, database and load share its cores. Each is measured in several runs, and
//! the smallest, the median and the largest are kept.

#![expect(clippy::cast_precision_loss, reason = "figures are for people, and none comes near 2^52")]

pub mod allocations;
pub mod archiver;
pub mod chain;
pub mod cold_start;
pub mod figures;
pub mod ingest;
pub mod latency;
pub mod load;
pub mod plan;
pub mod processor;
pub mod query;
