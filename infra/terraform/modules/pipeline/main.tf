# The whole pipeline. dev and production call this module with different values.

data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  region     = data.aws_region.current.name
  is_msk     = var.stream.kind != "external"

  has_way_out = var.network.existing == null ? var.network.nat != "none" : var.network.existing.has_nat

  # Services that functions in the VPC, or the pollers of a mapping, call. With NAT they go that way.
  endpoints = local.has_way_out ? [] : concat(
    ["lambda"],
    local.is_msk ? ["kafka"] : [],
    var.mappings.mode == "on_demand" ? ["sts"] : [],
    !local.is_msk || var.database.login == "secret" || !var.database.proxy || var.query.console != null ? ["secretsmanager"] : [],
    var.traces.to == "xray" ? ["xray"] : [],
  )

  # Of a collector in the VPC. A URL without a port has that of its scheme.
  collector      = var.traces.inside_vpc ? regex("^(?P<scheme>https?)://[^/:]+(?::(?P<port>[0-9]+))?/", var.traces.endpoint) : null
  collector_port = local.collector == null ? null : tonumber(coalesce(local.collector.port, { http = "80", https = "443" }[local.collector.scheme]))
}

module "network" {
  source = "../network"

  name                = var.name
  region              = local.region
  cidr                = var.network.cidr
  existing            = var.network.existing
  nat                 = var.network.nat
  has_way_out         = local.has_way_out
  interface_endpoints = toset(local.endpoints)
  endpoint_zones      = var.network.endpoint_zones
  flow_log_days       = var.network.flow_log_days
  collector_port      = local.collector_port
  private_link        = try(var.stream.external.private_link, null)
  private_link_ports  = local.is_msk ? [] : distinct([for broker in var.stream.external.brokers : tonumber(split(":", broker)[1])])
}

module "stream" {
  source = "../stream"

  name         = var.name
  kind         = var.stream.kind
  existing_msk = var.stream.existing_msk
  external     = var.stream.external
  broker = merge(var.stream.broker, {
    instance_type = coalesce(var.stream.broker.instance_type, var.stream.kind == "msk_express" ? "express.m7g.large" : "kafka.t3.small")
  })
  vpc_id                      = module.network.vpc_id
  subnet_ids                  = module.network.subnet_ids
  functions_security_group_id = module.network.functions_security_group_id
  endpoints_security_group_id = module.network.endpoints_security_group_id
}

module "database" {
  source = "../database"

  name                        = var.name
  database                    = var.database
  iam_user                    = "forebay_functions"
  vpc_id                      = module.network.vpc_id
  subnet_ids                  = module.network.subnet_ids
  functions_security_group_id = module.network.functions_security_group_id
  account_id                  = local.account_id
  region                      = local.region
}

module "archive" {
  source = "../archive"

  name              = coalesce(var.archive.bucket, "${var.name}-archive-${local.account_id}")
  retention_days    = var.archive.retention_days
  query_result_days = try(var.lake.result_days, null)
  noncurrent_days   = var.archive.noncurrent_days
  kms_key_arn       = var.archive.kms_key_arn
  force_destroy     = var.archive.force_destroy
  replica_arn       = var.archive_replica_arn
}

module "lake" {
  source = "../lake"
  count  = var.lake == null ? 0 : 1

  name          = var.name
  bucket        = module.archive.name
  days          = var.archive.retention_days
  kms_key_arn   = var.archive.kms_key_arn
  scan_limit_gb = var.lake.scan_limit_gb
}

module "state" {
  source = "../state"

  name                = var.name
  with_dedup          = var.dedup_store == "dynamodb"
  deletion_protection = var.database.deletion_protection
}
