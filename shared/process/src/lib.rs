//! How a process of ours starts and ends, whatever it does: its logs, and the signal that asks it to stop.

mod log_filter;
pub mod logs;
mod stop;

pub use stop::stop_signal;
