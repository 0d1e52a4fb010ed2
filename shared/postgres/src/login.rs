//! What new connections are made with. It changes while the pool lives: a password is rotated, a token expires.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_config::SdkConfig;
use event::Timestamp;
use pipeline::clock::Clock;
use rustls::{ClientConfig, RootCertStore};
use secrecy::SecretString;
use tokio::sync::{Mutex, OnceCell};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::{Address, Password, PostgresConfig};
use crate::error::PostgresError;

/// How long a token is used for new connections: well below the 15 minutes for which it is valid, because clocks differ.
const TOKEN_USE: Duration = Duration::from_secs(10 * 60);

/// How to open a connection now.
pub(crate) struct Opening {
    pub config: tokio_postgres::Config,
    pub tls: Option<MakeRustlsConnect>,
    made_at: Timestamp,
}

/// Where the login comes from, and as it was when it was last read.
pub(crate) struct Login {
    config: PostgresConfig,
    /// Loaded when it is first needed: without a region in the environment, that asks the network.
    sdk: OnceCell<SdkConfig>,
    clock: Arc<dyn Clock>,
    opening: RwLock<Arc<Opening>>,
    /// Held while the login is read again.
    renewing: Mutex<()>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Login {
    /// # Errors
    /// If the secret cannot be read or is no login, the token cannot be made, or the CA file cannot be used.
    pub(crate) async fn read(
        config: &PostgresConfig,
        sdk: OnceCell<SdkConfig>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PostgresError> {
        let opening = read(config, &sdk, clock.now()).await?;
        Ok(Login {
            config: config.clone(),
            sdk,
            clock,
            opening: RwLock::new(Arc::new(opening)),
            renewing: Mutex::new(()),
        })
    }

    /// What a connection is opened with, whatever its age.
    pub(crate) fn opening(&self) -> Arc<Opening> {
        Arc::clone(&self.opening.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a connection may be opened with now: a token that becomes old is replaced.
    ///
    /// # Errors
    /// If the token cannot be made.
    pub(crate) async fn current(&self) -> Result<Arc<Opening>, PostgresError> {
        let opening = self.opening();
        let is_token = matches!(&self.config.address, Address::Parts { password: Password::Iam(_), .. });
        if is_token && is_old(opening.made_at, self.clock.now()) {
            self.renew(&opening).await?;
            return Ok(self.opening());
        }
        Ok(opening)
    }

    /// Reads the login again, unless another caller has done so since `known` was current. Returns whether there is
    /// another one than `known`.
    ///
    /// # Errors
    /// As [`Login::read`].
    pub(crate) async fn renew(&self, known: &Arc<Opening>) -> Result<bool, PostgresError> {
        let _only_one = self.renewing.lock().await;
        if !Arc::ptr_eq(known, &self.opening()) {
            return Ok(true);
        }
        let opening = read(&self.config, &self.sdk, self.clock.now()).await?;
        if opening.config == known.config {
            return Ok(false);
        }
        *self.opening.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(opening);
        Ok(true)
    }
}

/// A clock that was set back makes a token old, too: it would be used for too long.
fn is_old(made_at: Timestamp, now: Timestamp) -> bool {
    now < made_at || now.since(made_at) >= TOKEN_USE
}

async fn read(config: &PostgresConfig, sdk: &OnceCell<SdkConfig>, now: Timestamp) -> Result<Opening, PostgresError> {
    let sdk = async || sdk.get_or_init(aws::sdk_config).await;
    let secret: SecretString = match &config.address {
        Address::Url(source) | Address::Parts { password: Password::Secret(source), .. } => {
            aws::secrets::read_with(source, async || sdk().await.clone()).await.map_err(PostgresError::Secret)?
        }
        Address::Parts { password: Password::Iam(login), .. } => {
            login.token(sdk().await, now).await.map_err(PostgresError::Token)?.into()
        }
    };
    let (connection, encrypted) = config.connection(&secret).map_err(PostgresError::Login)?;
    let tls = if encrypted { Some(connector(config.ca_file.as_deref())?) } else { None };
    Ok(Opening { config: connection, tls, made_at: now })
}

/// TLS with the given roots, or the public ones. Verifies certificate and name.
fn connector(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, PostgresError> {
    let Some(path) = ca_file else {
        // Needs a default provider in the process; installing it a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        return Ok(MakeRustlsConnect::with_webpki_roots());
    };
    let mut roots = RootCertStore::empty();
    tls::add_authorities(&mut roots, path).map_err(|source| PostgresError::CaFile { path: path.into(), source })?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(PostgresError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_for_ten_minutes() {
        let start = Timestamp::from_millis(1_724_709_600_000);
        assert!(!is_old(start, start));
        assert!(!is_old(start, start.plus(TOKEN_USE - Duration::from_millis(1))));
        assert!(is_old(start, start.plus(TOKEN_USE)));
        assert!(is_old(start.plus(Duration::from_millis(1)), start));
    }
}
