//! Sends outcomes to tenants' own servers as signed webhooks.
//!
//! Owns when a message is sent, what an attempt is, and how the network is kept from callers' tricks. What a message says, how it
//! is signed and when it is tried again is in `webhooks`; `postgres` keeps endpoints and what has failed.

mod app;
mod batch;
mod config;
mod delivery;
mod error;
mod handler;
mod request;
mod retry;
mod sender;

pub use app::{App, ConnectError};
pub use config::{Config, Policy};
pub use error::NotifierError;
pub use handler::handle;
pub use sender::{Attempt, HttpsSender, SenderError, WebhookSender};
