//! How a process starts and ends: its logs, and the signal that asks it to stop.

pub mod logs;
mod stop;

pub use stop::stop_signal;
