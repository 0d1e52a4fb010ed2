//! Statistics over HTTP.

mod answer;
mod handler;
mod question;

pub(crate) use handler::{of_campaign, of_part};
