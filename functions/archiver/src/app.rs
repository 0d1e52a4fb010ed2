//! What one instance of the archiver has: the archive and its guard.

use std::sync::Arc;

use archive::S3Objects;
use lambda::batch_response::BatchResponse;
use lambda::guard::guard;
use pipeline::Dependency;
use pipeline::guard::Guard;
use pipeline::ports::ObjectStore;

use crate::config::Config;
use crate::report;

pub struct App {
    pub objects: Arc<dyn ObjectStore>,
    pub s3: Guard,
    pub batch_response: BatchResponse,
}

impl App {
    /// Connects during init. If S3 is down, batches fail and are sent again.
    pub async fn connect(config: Config) -> Self {
        let objects = S3Objects::connect(&aws::sdk_config().await, config.bucket);
        objects.warm_up().await;
        report::begin();
        App {
            objects: Arc::new(objects),
            s3: guard(Dependency::S3, config.breaker_open),
            batch_response: config.batch_response,
        }
    }
}
