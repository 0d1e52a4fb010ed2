mock_provider "aws" {
  source          = "../../modules/pipeline/tests/mocks"
  override_during = plan
}

variables {
  region = "eu-west-1"
  kafka = {
    brokers       = ["b1.kafka.example:9092", "b2.kafka.example:9092"]
    sasl_username = "forebay"
    secret_arn    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf"
  }
}

run "small" {
  command = plan
}
