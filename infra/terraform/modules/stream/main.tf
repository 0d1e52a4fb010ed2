locals {
  makes_cluster = contains(["msk_express", "msk_standard"], var.kind)
  is_msk        = var.kind != "external"
  is_express    = var.kind == "msk_express"

  # IAM listens on this port.
  iam_port = 9098

  cluster_arn        = local.makes_cluster ? aws_msk_cluster.this[0].arn : local.is_msk ? var.existing_msk.cluster_arn : null
  security_group_id  = local.makes_cluster ? aws_security_group.brokers[0].id : local.is_msk ? var.existing_msk.security_group_id : null
  external_ports     = local.is_msk ? [] : distinct([for broker in var.external.brokers : tonumber(split(":", broker)[1])])
  broker_log_enabled = local.makes_cluster && var.broker.log_days > 0
}

resource "aws_msk_configuration" "this" {
  count = local.makes_cluster ? 1 : 0

  name = var.name

  # The maintainer creates the topics. The replicas of an Express cluster cannot be configured.
  server_properties = join("\n", concat(["auto.create.topics.enable=false"], local.is_express ? [] : [
    "default.replication.factor=3",
    "min.insync.replicas=2",
    "unclean.leader.election.enable=false",
  ]))

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_msk_cluster" "this" {
  count = local.makes_cluster ? 1 : 0

  cluster_name           = var.name
  kafka_version          = var.broker.kafka_version
  number_of_broker_nodes = var.broker.count

  broker_node_group_info {
    instance_type   = var.broker.instance_type
    client_subnets  = var.subnet_ids
    security_groups = [aws_security_group.brokers[0].id]

    # Express brokers have no volumes.
    dynamic "storage_info" {
      for_each = local.is_express ? [] : [var.broker.storage_gb]

      content {
        ebs_storage_info {
          volume_size = storage_info.value
        }
      }
    }
  }

  configuration_info {
    arn      = aws_msk_configuration.this[0].arn
    revision = aws_msk_configuration.this[0].latest_revision
  }

  client_authentication {
    unauthenticated = false

    sasl {
      iam = true
    }
  }

  encryption_info {
    encryption_in_transit {
      client_broker = "TLS"
      in_cluster    = true
    }
  }

  dynamic "logging_info" {
    for_each = aws_cloudwatch_log_group.brokers

    content {
      broker_logs {
        cloudwatch_logs {
          enabled   = true
          log_group = logging_info.value.name
        }
      }
    }
  }

  lifecycle {
    # A volume can grow and never shrink: what grew meanwhile stays.
    ignore_changes = [broker_node_group_info[0].storage_info]
  }
}

resource "aws_cloudwatch_log_group" "brokers" {
  #checkov:skip=CKV_AWS_158: CloudWatch encrypts it with a key of its own; it holds no payloads
  count             = local.broker_log_enabled ? 1 : 0
  name              = "/forebay/${var.name}/kafka"
  retention_in_days = var.broker.log_days
}
