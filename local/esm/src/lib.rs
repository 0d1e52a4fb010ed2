//! The Kafka event source mapping of AWS Lambda, as a program and a library.
//!
//! Owns polling as a consumer group, building batches (count, window, 6 MB), building the exact event that AWS sends,
//! invoking the function, reading its answer, retrying, and committing what succeeded. Does not own what the function
//! does and where it runs: AWS, the local host, `cargo lambda watch` and the Runtime Interface Emulator all have the
//! Invoke API.
//!
//! Delivery is at least once, in the order of each partition: a partition is in at most one invocation, and as many
//! invocations are in flight as there are partitions, unless the mapping or [`Functions`] sets a limit. An offset is
//! committed only when the function has answered for every record below it.

mod answer;
mod batch;
mod call;
mod config;
mod error;
mod event;
mod flight;
mod functions;
mod invoker;
mod mapping;
mod poller;

pub use call::call;
pub use config::{EventSource, MappingConfig, PollerMode};
pub use error::EsmError;
pub use functions::Functions;
pub use invoker::{Invoker, InvokerError, LambdaInvoker, Reply};
pub use kafka::StartingPosition;
pub use mapping::{Mapping, MappingStatus, RunningMapping};
