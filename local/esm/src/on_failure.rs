//! Where a mapping may send what no invocation gets (`DestinationConfig`).

use crate::messages::MessageTarget;

/// The ARN of a bucket starts so; partitions other than `aws` have their own names.
const BUCKET_ARN: (&str, &str) = ("arn:aws", ":s3:::");
const KAFKA_TOPIC: &str = "kafka://";

/// An on-failure destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// A bucket, by its name.
    Bucket(String),
    /// An SQS queue or an SNS topic.
    Messages(MessageTarget),
    /// A topic of the cluster that the mapping reads.
    KafkaTopic(String),
}

impl OnFailure {
    /// Reads the `Destination` of a request; otherwise says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(topic) = text.strip_prefix(KAFKA_TOPIC) {
            let refuse = || format!("{topic:?} is not the name of a Kafka topic");
            return ::event::is_topic_name(topic).then(|| OnFailure::KafkaTopic(topic.to_owned())).ok_or_else(refuse);
        }
        if let Some(target) = MessageTarget::parse(text) {
            let name = &target.name;
            let refuse = || format!("{name} is FIFO, which AWS does not support as an on-failure destination");
            return if target.is_fifo() { Err(refuse()) } else { Ok(OnFailure::Messages(target)) };
        }
        bucket(text).map(OnFailure::Bucket).ok_or_else(|| {
            "the on-failure destination must be the ARN of a bucket, of an SQS queue or of an SNS topic, or kafka://TOPIC"
                .to_owned()
        })
    }
}

/// The name of the bucket with that ARN.
fn bucket(arn: &str) -> Option<String> {
    let (partition, name) = arn.strip_prefix(BUCKET_ARN.0)?.split_once(BUCKET_ARN.1)?;
    let is_bucket = !partition.contains(':') && !name.is_empty() && !name.contains('/');
    is_bucket.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::MessageService;

    #[test]
    fn reads_each_kind() {
        let messages = |service, arn: &str, region: &str| {
            let (arn, region) = (arn.to_owned(), region.to_owned());
            OnFailure::Messages(MessageTarget {
                service,
                arn,
                region,
                account: "123456789012".into(),
                name: "q".into(),
            })
        };
        let (queue, topic) = ("arn:aws:sqs:eu-west-1:123456789012:q", "arn:aws-cn:sns:cn-north-1:123456789012:q");
        for (text, expected) in [
            ("arn:aws:s3:::given-up", OnFailure::Bucket("given-up".into())),
            ("arn:aws-cn:s3:::b", OnFailure::Bucket("b".into())),
            (queue, messages(MessageService::Sqs, queue, "eu-west-1")),
            (topic, messages(MessageService::Sns, topic, "cn-north-1")),
            ("kafka://given-up.1_2", OnFailure::KafkaTopic("given-up.1_2".into())),
        ] {
            assert_eq!(OnFailure::parse(text).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let long = format!("kafka://{}", "t".repeat(250));
        for (text, expected) in [
            ("arn:aws:s3:::", "ARN of a bucket"),
            ("arn:aws:s3:::b/key", "ARN of a bucket"),
            ("arn:aws:lambda:eu-west-1:123456789012:function:f", "ARN of a bucket"),
            ("arn:aws:sqs:eu-west-1::q", "ARN of a bucket"),
            ("arn:aws:sns:eu-west-1:123456789012:q:subscription", "ARN of a bucket"),
            ("given-up", "ARN of a bucket"),
            ("arn:aws:sqs:eu-west-1:123456789012:q.fifo", "q.fifo is FIFO"),
            ("arn:aws:sns:eu-west-1:123456789012:t.fifo", "t.fifo is FIFO"),
            ("kafka://", "not the name of a Kafka topic"),
            ("kafka://a/b", "not the name of a Kafka topic"),
            (&long, "not the name of a Kafka topic"),
        ] {
            let error = OnFailure::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
