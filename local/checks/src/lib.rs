//! Checks of the source itself. The rules are here; the tests hold this workspace against them.

pub mod cycles;
pub mod layers;
pub mod workspace;
