//! How a process starts and ends: its logs, and the signal that asks it to stop.

mod log_filter;
pub mod logs;
mod stop;

pub use stop::stop_signal;
