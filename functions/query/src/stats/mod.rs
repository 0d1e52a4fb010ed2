//! Statistics over HTTP.

pub(crate) mod addresses;
pub(crate) mod answer;
mod handler;
pub(crate) mod question;

pub(crate) use addresses::of_addresses;
pub(crate) use answer::{CampaignShares, shown};
pub(crate) use handler::{of_campaign, of_part};
pub(crate) use question::{CAMPAIGN, Parameters, StatsQuestion};
