//! Passwords from IAM: a presigned request for the action `rds-db:connect`, valid for 15 minutes.
//!
//! Follows "IAM database authentication" in the RDS user guide. Signed here, because the RDS SDK, which has a helper
//! for this, is a large crate for one function.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use event::Timestamp;

use crate::config::IamLogin;
use crate::error::PostgresError;

/// The longest time for which RDS accepts a token.
const VALIDITY: Duration = Duration::from_secs(15 * 60);
/// How long a token is used for new connections: well below [`VALIDITY`], because clocks differ.
const USE: Duration = Duration::from_secs(10 * 60);

#[derive(Clone, Debug)]
struct Token {
    text: String,
    made_at: Timestamp,
}

/// The current token of one login.
#[derive(Debug)]
pub(crate) struct IamTokens {
    login: IamLogin,
    sdk: SdkConfig,
    current: RwLock<Option<Token>>,
}

impl IamTokens {
    pub(crate) fn new(login: IamLogin, sdk: SdkConfig) -> Self {
        IamTokens { login, sdk, current: RwLock::new(None) }
    }

    /// The token to connect with.
    pub(crate) fn current(&self) -> Option<String> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|token| token.text.clone())
    }

    /// Creates a new token unless the current one is recent enough.
    pub(crate) async fn refresh(&self, now: Timestamp) -> Result<(), PostgresError> {
        let young = |token: &Token| now >= token.made_at && now.since(token.made_at) < USE;
        if self.current.read().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(young) {
            return Ok(());
        }
        let text = self.sign(now).await.map_err(PostgresError::Token)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Token { text, made_at: now });
        Ok(())
    }

    async fn sign(&self, now: Timestamp) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let provider = self.sdk.credentials_provider().ok_or("no AWS credentials are configured")?;
        let region = self.sdk.region().ok_or("no AWS region is configured")?;
        let identity = provider.provide_credentials().await?.into();
        let mut settings = SigningSettings::default();
        settings.expires_in = Some(VALIDITY);
        settings.signature_location = SignatureLocation::QueryParams;
        let since_epoch = Duration::from_millis(u64::try_from(now.as_millis())?);
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region.as_ref())
            .name("rds-db")
            .time(UNIX_EPOCH + since_epoch)
            .settings(settings)
            .build()?
            .into();
        let IamLogin { host, port, user } = &self.login;
        let mut url = url::Url::parse(&format!("https://{host}:{port}/"))?;
        url.query_pairs_mut().append_pair("Action", "connect").append_pair("DBUser", user);
        let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))?;
        let (instructions, _signature) = sign(request, &params)?.into_parts();
        for (name, value) in instructions.params() {
            url.query_pairs_mut().append_pair(name, value);
        }
        // The token is the URL without its scheme.
        Ok(url.as_str().trim_start_matches("https://").to_owned())
    }
}

#[cfg(test)]
mod tests {
    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::SharedCredentialsProvider;

    use super::*;

    fn tokens() -> IamTokens {
        let credentials = Credentials::new("akid", "secret", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        let login =
            IamLogin { host: "prod-instance.us-east-1.rds.amazonaws.com".into(), port: 3306, user: "peccy".into() };
        IamTokens::new(login, sdk)
    }

    /// The request, credentials and signature of the example that AWS's own generator is tested with
    /// (aws-sdk-rds, `auth_token.rs`, `signing_works`).
    #[tokio::test]
    async fn signs_as_the_sdk_does() {
        let tokens = tokens();
        tokens.refresh(Timestamp::from_millis(1_724_709_600_000)).await.unwrap();
        assert_eq!(
            tokens.current().unwrap(),
            "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=peccy\
             &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=akid%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request\
             &X-Amz-Date=20240826T220000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89"
        );
    }

    #[tokio::test]
    async fn a_token_is_used_for_ten_minutes() {
        let tokens = tokens();
        let start = Timestamp::from_millis(1_724_709_600_000);
        tokens.refresh(start).await.unwrap();
        let first = tokens.current();
        tokens.refresh(start.plus(USE - Duration::from_millis(1))).await.unwrap();
        assert_eq!(tokens.current(), first);
        tokens.refresh(start.plus(USE)).await.unwrap();
        assert_ne!(tokens.current(), first);
    }
}
