//! Searches over HTTP.

pub(crate) mod answer;
mod cursor;
mod handler;
mod openapi;
pub(crate) mod question;

pub(crate) use cursor::Cursor;
pub(crate) use handler::respond;
pub(crate) use openapi::documented;
pub(crate) use question::parameters;
