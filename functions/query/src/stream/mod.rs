//! Outcomes as they happen: server-sent events, which a client resumes by the id of the last one (ADR 41).

pub(crate) mod answer;
mod blocks;
mod handler;
mod openapi;
mod place_text;
mod question;
mod slots;

pub(crate) use handler::stream;
pub(crate) use openapi::documented;
pub(crate) use question::PARAMETERS;
pub(crate) use slots::Streams;
