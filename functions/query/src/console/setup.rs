//! What only the console needs, built once.

use std::sync::Arc;

use pipeline::ports::FunctionCaller;
use pipeline::root_key::RootKey;

use super::functions::Callee;
use super::session::Sessions;
use crate::config::{Config, ConsoleConfig};

/// What only the console needs.
#[derive(Clone)]
pub struct ConsolePorts {
    /// Signs sessions.
    pub key: RootKey,
    pub maintainer: Arc<dyn FunctionCaller>,
    pub redriver: Arc<dyn FunctionCaller>,
}

pub(crate) struct Console {
    pub(super) sessions: Sessions,
    pub(super) maintainer: Callee,
    pub(super) redriver: Callee,
}

impl Console {
    pub fn new(config: &Config, console: &ConsoleConfig, ports: ConsolePorts) -> Self {
        let ConsolePorts { key, maintainer, redriver } = ports;
        let callee = |function, name: &str, caller| Callee::new(function, name.to_owned(), caller, config.breaker_open);
        Console {
            sessions: Sessions::new(key, console.longest_session),
            maintainer: callee("maintainer", &console.maintainer.name, maintainer),
            redriver: callee("redriver", &console.redriver.name, redriver),
        }
    }
}
