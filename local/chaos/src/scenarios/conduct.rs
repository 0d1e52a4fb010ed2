//! How the attempt to run a scenario went.

use crate::trial::Trial;

/// Whether a scenario could be run.
#[derive(Debug)]
pub enum Conduct {
    Done(Vec<Trial>),
    /// Something that it needs is missing; the text says what.
    NotHere(String),
}
