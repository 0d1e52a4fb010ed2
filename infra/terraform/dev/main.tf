# A small installation: one zone for the endpoints, the smallest servers, nothing kept for long.

module "pipeline" {
  source = "../modules/pipeline"

  name                = "forebay-dev"
  packages_dir        = var.packages_dir
  alarm_email         = var.alarm_email
  live_versions       = var.live_versions
  reserve_concurrency = false
  log_days            = 7

  network = { endpoint_zones = 1, flow_log_days = 0 }
  stream  = { kind = "msk_standard", broker = { storage_gb = 10, log_days = 3 } }

  database = {
    instance_class      = "db.t4g.micro"
    backup_days         = 1
    deletion_protection = false
    log_days            = 3
  }

  archive    = { force_destroy = true }
  front_door = { rate = 50, burst = 100, log_days = 3 }

  # From the name, which a plan knows.
  archive_replica_arn = var.archive_replica_region == null ? null : "arn:aws:s3:::${module.archive_replica[0].name}"
}

module "archive_replica" {
  source    = "../modules/archive"
  count     = var.archive_replica_region == null ? 0 : 1
  providers = { aws = aws.replica }

  name              = "${module.pipeline.archive_bucket}-replica"
  retention_days    = module.pipeline.archive_rules.retention_days
  query_result_days = module.pipeline.archive_rules.query_result_days
  noncurrent_days   = module.pipeline.archive_rules.noncurrent_days
  force_destroy     = module.pipeline.archive_rules.force_destroy
  kms_key_arn       = null
  replica_arn       = null
}
