//! Sending a text to an SQS queue or an SNS topic. Each is one signed request ("SendMessage" in the SQS API reference, in
//! the JSON protocol, and "Publish" in that of SNS): two more SDKs would be much code for it.

use std::error::Error;

use async_trait::async_trait;
use aws::signed::{HttpReply, SignedRequest, endpoint};
use aws_config::SdkConfig;

/// Longest part of a refusal that is logged, in bytes.
const MAX_REFUSAL: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageService {
    Sqs,
    Sns,
}

/// A queue or a topic, with the parts of its ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageTarget {
    pub service: MessageService,
    pub arn: String,
    pub region: String,
    pub account: String,
    pub name: String,
}

impl MessageTarget {
    /// `None` if it is not the ARN of a queue or a topic.
    pub(crate) fn parse(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.split(':').collect();
        let ["arn", partition, service, region, account, name] = parts[..] else { return None };
        if [partition, region, account, name].iter().any(|part| part.is_empty()) {
            return None;
        }
        let service = match service {
            "sqs" => MessageService::Sqs,
            "sns" => MessageService::Sns,
            _ => return None,
        };
        let [arn, region, account, name] = [arn, region, account, name].map(str::to_owned);
        Some(MessageTarget { service, arn, region, account, name })
    }

    pub(crate) fn is_fifo(&self) -> bool {
        self.name.ends_with(".fifo")
    }
}

/// A message was not taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot send to {arn}")]
pub struct MessageError {
    pub arn: String,
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

/// Sends texts to one queue or topic.
#[async_trait]
pub trait MessageSender: Send + Sync {
    /// # Errors
    /// If the message was not taken, or there is no answer: then it may have been taken.
    async fn send(&self, text: &str) -> Result<(), MessageError>;
}

/// SQS and SNS, at `AWS_ENDPOINT_URL_SQS` and `AWS_ENDPOINT_URL_SNS` or on AWS.
pub(crate) struct SignedSender {
    sdk: SdkConfig,
    target: MessageTarget,
}

impl SignedSender {
    pub(crate) fn new(sdk: SdkConfig, target: MessageTarget) -> Self {
        SignedSender { sdk, target }
    }

    async fn post(&self, text: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let target = &self.target;
        let reply = match target.service {
            MessageService::Sqs => {
                let root = endpoint("SQS", "sqs", &target.region, &self.sdk)?;
                let url = format!("{root}{}/{}", target.account, target.name);
                let body = serde_json::json!({ "QueueUrl": url, "MessageBody": text }).to_string();
                let headers =
                    [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "AmazonSQS.SendMessage")];
                self.send_to("SQS", "sqs", &headers, &body).await?
            }
            MessageService::Sns => {
                let body = form_urlencoded::Serializer::new(String::new())
                    .append_pair("Action", "Publish")
                    .append_pair("Version", "2010-03-31")
                    .append_pair("TopicArn", &target.arn)
                    .append_pair("Message", text)
                    .finish();
                let headers = [("content-type", "application/x-www-form-urlencoded")];
                self.send_to("SNS", "sns", &headers, &body).await?
            }
        };
        if (200..300).contains(&reply.status) {
            return Ok(());
        }
        let refusal = reply.body.get(..MAX_REFUSAL).unwrap_or(&reply.body);
        Err(format!("status {}: {}", reply.status, String::from_utf8_lossy(refusal)).into())
    }

    async fn send_to(
        &self,
        service_id: &'static str,
        service: &'static str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<HttpReply, Box<dyn Error + Send + Sync>> {
        let request = SignedRequest { service_id, service, region: &self.target.region, headers, body };
        // Boxed: it has tens of kilobytes, and would be a part of every attempt to invoke.
        tokio::time::timeout(aws::ATTEMPT_TIMEOUT, Box::pin(request.send(&self.sdk))).await?
    }
}

#[async_trait]
impl MessageSender for SignedSender {
    async fn send(&self, text: &str) -> Result<(), MessageError> {
        self.post(text).await.map_err(|source| MessageError { arn: self.target.arn.clone(), source })
    }
}
