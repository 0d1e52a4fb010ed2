locals {
  is_provisioned = var.pollers != null

  # Without a destination, a batch is sent again until it is processed, however long an outage lasts. With one, AWS gives up
  # after ten attempts unless a number is set, so the largest is.
  # On-demand mappings always repeat without end, and AWS documents these settings for provisioned mode only.
  endless  = -1
  attempts = var.on_failure_bucket_arn == null ? local.endless : 10000
}

resource "aws_lambda_event_source_mapping" "this" {
  function_name     = var.function_arn
  topics            = [var.topic]
  starting_position = "TRIM_HORIZON"

  batch_size                         = var.batch_size
  maximum_batching_window_in_seconds = var.window_sec

  maximum_retry_attempts        = local.is_provisioned ? local.attempts : null
  maximum_record_age_in_seconds = local.is_provisioned ? local.endless : null
  function_response_types       = var.reports_failed_records ? ["ReportBatchItemFailures"] : []

  event_source_arn = var.cluster_arn

  dynamic "amazon_managed_kafka_event_source_config" {
    for_each = var.external == null ? [var.consumer_group] : []

    content {
      consumer_group_id = amazon_managed_kafka_event_source_config.value
    }
  }

  dynamic "self_managed_event_source" {
    for_each = var.external == null ? [] : [var.external]

    content {
      endpoints = { KAFKA_BOOTSTRAP_SERVERS = join(",", self_managed_event_source.value.brokers) }
    }
  }

  dynamic "self_managed_kafka_event_source_config" {
    for_each = var.external == null ? [] : [var.consumer_group]

    content {
      consumer_group_id = self_managed_kafka_event_source_config.value
    }
  }

  dynamic "source_access_configuration" {
    for_each = local.source_access

    content {
      type = source_access_configuration.value.type
      uri  = source_access_configuration.value.uri
    }
  }

  dynamic "provisioned_poller_config" {
    for_each = local.is_provisioned ? [var.pollers] : []

    content {
      minimum_pollers = provisioned_poller_config.value.minimum
      maximum_pollers = provisioned_poller_config.value.maximum
    }
  }

  dynamic "destination_config" {
    for_each = var.on_failure_bucket_arn == null ? [] : [var.on_failure_bucket_arn]

    content {
      on_failure {
        destination_arn = destination_config.value
      }
    }
  }

  dynamic "metrics_config" {
    for_each = local.is_provisioned ? ["EventCount"] : []

    content {
      metrics = [metrics_config.value]
    }
  }
}

locals {
  login_types = {
    PLAIN           = "BASIC_AUTH"
    "SCRAM-SHA-256" = "SASL_SCRAM_256_AUTH"
    "SCRAM-SHA-512" = "SASL_SCRAM_512_AUTH"
  }
  source_access = var.external == null ? [] : concat(
    [{ type = local.login_types[var.external.sasl_mechanism], uri = var.external.secret_arn }],
    [for subnet in var.external.subnet_ids : { type = "VPC_SUBNET", uri = "subnet:${subnet}" }],
    length(var.external.subnet_ids) == 0 ? [] : [{ type = "VPC_SECURITY_GROUP", uri = "security_group:${var.external.security_group_id}" }],
  )
}
