//! How a process starts and ends: its logs, the check whether it is healthy, and the signal that asks it to stop.

pub mod health;
mod log_filter;
pub mod logs;
mod stop;

pub use stop::stop_signal;
/// The memory allocator of every program that handles events; each names it in its `main.rs`. The figures for the choice
/// are in docs/performance.md.
pub use tikv_jemallocator::Jemalloc as Allocator;
