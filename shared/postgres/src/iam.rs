//! Passwords from IAM: a presigned request for the action `rds-db:connect`, valid for 15 minutes.
//!
//! Follows "IAM database authentication" in the RDS user guide. Signed here, because the RDS SDK, which has a helper
//! for this, is a large crate for one function.

use std::time::{Duration, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use event::Timestamp;

/// The longest time for which RDS accepts a token.
const VALIDITY: Duration = Duration::from_secs(15 * 60);

/// The login for which a token is the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IamLogin {
    pub host: String,
    pub port: u16,
    pub user: String,
}

impl IamLogin {
    /// A token that is valid for 15 minutes from `now`, or for as long as the credentials are, if that is less.
    ///
    /// # Errors
    /// If the SDK has no region or gets no credentials.
    pub(crate) async fn token(
        &self,
        sdk: &SdkConfig,
        now: Timestamp,
    ) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let provider = sdk.credentials_provider().ok_or("no AWS credentials are configured")?;
        let region = sdk.region().ok_or("no AWS region is configured")?;
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
        let IamLogin { host, port, user } = self;
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

    /// The request, credentials and signature of the example that AWS's own generator is tested with
    /// (aws-sdk-rds, `auth_token.rs`, `signing_works`).
    #[tokio::test]
    async fn signs_as_the_sdk_does() {
        let credentials = Credentials::new("akid", "secret", None, None, "test");
        let sdk = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build();
        let login =
            IamLogin { host: "prod-instance.us-east-1.rds.amazonaws.com".into(), port: 3306, user: "peccy".into() };
        assert_eq!(
            login.token(&sdk, Timestamp::from_millis(1_724_709_600_000)).await.unwrap(),
            "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=peccy\
             &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=akid%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request\
             &X-Amz-Date=20240826T220000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89"
        );
    }
}
