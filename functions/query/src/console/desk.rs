//! What pages are made with.

use std::sync::Arc;

use super::setup::Console;
use crate::app::App;

/// What every page has at hand.
#[derive(Clone)]
pub(crate) struct Desk {
    pub app: Arc<App>,
    pub console: Arc<Console>,
}
