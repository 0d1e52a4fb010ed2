//! Searches over HTTP.

mod answer;
mod cursor;
mod handler;
mod question;

pub(crate) use handler::respond;
pub(crate) use question::parameters;
