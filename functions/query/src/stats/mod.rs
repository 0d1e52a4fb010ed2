//! Statistics over HTTP.

mod addresses;
mod answer;
mod handler;
mod question;

pub(crate) use addresses::of_addresses;
pub(crate) use handler::{of_campaign, of_part};
