//! The Kafka event source mapping of AWS Lambda, as a program and a library.
//!
//! Owns polling as a consumer group, building batches (count, window, 6 MB), building the exact event that AWS sends,
//! filtering records, invoking the function, reading its answer, retrying, and committing what succeeded. Does not own what
//! the function does and where it runs: AWS, the local host, `cargo lambda watch` and the Runtime Interface Emulator all have the
//! Invoke API. The emulator serves one function only, so a function may also have a URL of its own.
//!
//! Delivery is at least once, in the order of each partition: a partition is in at most one invocation, and as many
//! invocations are in flight as there are partitions, unless the mapping or [`Functions`] sets a limit. An offset is
//! committed only when the function has answered for every record below it, or the on-failure destination has it, or a filter
//! left it out.

mod answer;
mod batch;
mod call;
mod config;
mod counters;
mod destination;
mod error;
mod event;
mod filter;
mod flight;
mod function_urls;
mod functions;
mod invoker;
mod lag;
mod mapping;
mod messages;
mod on_failure;
mod pattern;
mod poller;

pub use call::call;
pub use config::{EventSource, MappingConfig, PollerMode};
pub use counters::MappingStatus;
pub use destination::Destinations;
pub use error::EsmError;
pub use filter::RecordFilters;
pub use function_urls::{FunctionUrl, UrlInvoker};
pub use functions::Functions;
pub use invoker::{Invoker, InvokerError, LambdaInvoker, Reply};
pub use kafka::StartingPosition;
pub use mapping::{Mapping, RunningMapping};
pub use messages::{MessageError, MessageSender, MessageService, MessageTarget};
pub use on_failure::OnFailure;
