module "pipeline" {
  source = "../modules/pipeline"

  name          = "forebay"
  packages_dir  = var.packages_dir
  alarm_email   = var.alarm_email
  live_versions = var.live_versions

  network = { endpoint_zones = 3 }
  stream  = { kind = "msk_express" }

  database = {
    instance_class = "db.m7g.large"
    storage_gb     = 100
    max_storage_gb = 1000
    multi_az       = true
    proxy          = true
    login          = "iam"
    backup_days    = 14
    log_days       = 30
  }

  mappings   = { mode = "provisioned", batch_response = "partial", keep_failed = true }
  front_door = { rate = 2000, burst = 4000, log_days = 30 }

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
