//! A function for the shutdown tests: its event is a number of milliseconds, after which it answers.

use std::time::Duration;

use lambda::invocation::{InvocationError, ServeError, serve};
use serde_json::value::RawValue;

#[tokio::main]
async fn main() -> Result<(), ServeError> {
    lambda::start("slow")?;
    serve("slow", |event: Box<RawValue>, _| async move {
        let pause: u64 =
            serde_json::from_str(event.get()).map_err(|error| InvocationError::new("not-a-number", &error))?;
        eprintln!("begun");
        tokio::time::sleep(Duration::from_millis(pause)).await;
        Ok(event)
    })
    .await
}
