output "is_msk" {
  value = local.is_msk
}

output "cluster_arn" {
  description = "Null for another Kafka than MSK."
  value       = local.cluster_arn
}

output "environment" {
  description = "The settings of functions that connect to Kafka."
  value = local.is_msk ? {
    MSK_CLUSTER_ARN = local.cluster_arn
    KAFKA_SECURITY  = "iam"
    } : {
    KAFKA_BROKERS                  = join(",", var.external.brokers)
    KAFKA_SECURITY                 = "sasl"
    KAFKA_SASL_MECHANISM           = var.external.sasl_mechanism
    KAFKA_SASL_USERNAME            = var.external.sasl_username
    KAFKA_SASL_PASSWORD_SECRET_ARN = "${var.external.secret_arn}:password"
  }
}

output "secret_arn" {
  description = "The secret with the login; null with MSK."
  value       = local.is_msk ? null : var.external.secret_arn
}

# A topic's ARN is its cluster's with "topic" in place of "cluster" and the topic's name at the end; a group's likewise.
output "topic_arn_prefix" {
  value = local.is_msk ? replace(local.cluster_arn, ":cluster/", ":topic/") : ""
}

output "group_arn_prefix" {
  value = local.is_msk ? replace(local.cluster_arn, ":cluster/", ":group/") : ""
}
