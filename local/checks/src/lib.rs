//! Checks of the source itself. The rules are here; the tests hold this workspace against them.

pub mod containers;
pub mod cycles;
pub mod layers;
pub mod make_targets;
pub mod metrics;
pub mod settings;
pub mod text;
pub mod type_names;
pub mod workspace;
