//! The S3 adapter on the embedded S3.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use archive::S3Objects;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use pipeline::ErrorClass;
use pipeline::ports::{ObjectStore as _, PutResult};
use services::s3::{ACCESS_KEY_ID, EmbeddedS3, SECRET_ACCESS_KEY};
use testkit::contracts::objects::objects_contract;

const BUCKET: &str = "archive-tests";

fn sdk_config(endpoint: &str, secret: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            ACCESS_KEY_ID,
            secret,
            None,
            None,
            "test",
        )))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .build()
}

async fn start(folder: &tempfile::TempDir) -> (EmbeddedS3, S3Objects) {
    let s3 = EmbeddedS3::start(None, folder.path(), BUCKET).await.unwrap();
    let objects = S3Objects::connect(&sdk_config(&s3.endpoint(), SECRET_ACCESS_KEY), BUCKET);
    (s3, objects)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let (_s3, objects) = start(&folder).await;
    objects_contract(&objects, "contract/").await;
}

#[tokio::test]
async fn a_list_goes_over_many_pages() {
    let folder = tempfile::tempdir().unwrap();
    let (_s3, objects) = start(&folder).await;
    // The files of the embedded S3 are its objects. Creating the files is quicker than 2,500 puts.
    let pages = folder.path().join(BUCKET).join("pages");
    std::fs::create_dir(&pages).unwrap();
    let names: Vec<String> = (0..2_500).map(|number| format!("pages/{number:04}")).collect();
    for name in &names {
        std::fs::write(folder.path().join(BUCKET).join(name), name).unwrap();
    }
    let listed: Vec<String> = objects.list("pages/").await.unwrap().into_iter().map(|info| info.key).collect();
    assert_eq!(listed, names);
}

#[tokio::test]
async fn failures_have_their_class() {
    let folder = tempfile::tempdir().unwrap();
    let (s3, objects) = start(&folder).await;
    let put = async |objects: &S3Objects| objects.put_new("key", Bytes::from_static(b"body")).await;

    let elsewhere = S3Objects::connect(&sdk_config(&s3.endpoint(), SECRET_ACCESS_KEY), "no-such-bucket");
    let error = elsewhere.list("").await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Permanent, "absent"));

    let stranger = S3Objects::connect(&sdk_config(&s3.endpoint(), "wrong"), BUCKET);
    let error = put(&stranger).await.unwrap_err();
    assert_eq!((error.class, error.tag), (ErrorClass::Permanent, "denied"));

    assert_eq!(put(&objects).await.unwrap(), PutResult::Created);
    drop(s3);
    let error = put(&objects).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
}

#[tokio::test]
async fn objects_outlive_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let body = Bytes::from_static(b"body");
    {
        let (_s3, objects) = start(&folder).await;
        assert_eq!(objects.put_new("key", body.clone()).await.unwrap(), PutResult::Created);
    }
    let (_s3, objects) = start(&folder).await;
    assert_eq!(objects.put_new("key", Bytes::new()).await.unwrap(), PutResult::AlreadyThere);
    assert_eq!(objects.get("key").await.unwrap(), body);
}
