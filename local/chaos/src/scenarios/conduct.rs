//! How the attempt to run a scenario went.

use crate::trial::Trial;

/// Whether a scenario could be carried out.
#[derive(Debug)]
pub enum Conduct {
    Done(Vec<Trial>),
    /// Something that it needs is missing; says what.
    NotHere(String),
}
