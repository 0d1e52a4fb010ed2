//! A role of AWS whose credentials can be replaced while a client uses them, as Lambda does.

use std::sync::{Arc, Mutex, PoisonError};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

use crate::presigned::KnownKey;

/// Clones are the same role.
#[derive(Clone, Debug)]
pub struct Role(Arc<Mutex<Credentials>>);

impl Role {
    /// With a key id, its secret key, and the session token of temporary credentials.
    pub fn new(id: &str, secret: &str, session: Option<&str>) -> Self {
        Role(Arc::new(Mutex::new(credentials(id, secret, session))))
    }

    pub fn replace(&self, id: &str, secret: &str, session: Option<&str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = credentials(id, secret, session);
    }

    fn current(&self) -> Credentials {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration of a client that has this role.
    pub fn sdk(&self, region: &'static str) -> SdkConfig {
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(SharedCredentialsProvider::new(self.clone()))
            .build()
    }

    /// What AWS knows of its credentials.
    pub fn key(&self, region: &str, service: &'static str) -> KnownKey {
        let current = self.current();
        KnownKey {
            id: current.access_key_id().to_owned(),
            secret: current.secret_access_key().to_owned(),
            session_token: current.session_token().map(str::to_owned),
            region: region.to_owned(),
            service,
        }
    }
}

impl ProvideCredentials for Role {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Ok(self.current()))
    }
}

fn credentials(id: &str, secret: &str, session: Option<&str>) -> Credentials {
    Credentials::new(id, secret, session.map(str::to_owned), None, "test")
}
