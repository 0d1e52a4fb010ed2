//! The arguments for the time that a question is about.

use clap::Args;

use crate::asking::QueryParameters;

#[derive(Debug, Args)]
pub struct TimeRangeArguments {
    /// The last so many hours; 24 if nothing else is said.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    hours: Option<u32>,
    /// From this instant on, such as 2026-11-20T18:00:00Z.
    #[arg(long, value_name = "INSTANT", requires = "to")]
    from: Option<String>,
    /// Before this instant.
    #[arg(long, value_name = "INSTANT", requires = "from")]
    to: Option<String>,
}

impl TimeRangeArguments {
    pub fn add_to(&self, parameters: &mut QueryParameters) {
        parameters.add_some("hours", self.hours);
        parameters.add_some("from", self.from.as_ref());
        parameters.add_some("to", self.to.as_ref());
    }
}
