# The cheapest set-up that is meant to be kept: a Kafka that you have already, claims in Postgres, one small server, one gateway.
# README.md has what it costs.

module "pipeline" {
  source = "../../modules/pipeline"

  name                = "forebay"
  packages_dir        = var.packages_dir
  alarm_email         = var.alarm_email
  live_versions       = var.live_versions
  reserve_concurrency = false
  dedup_store         = "postgres"
  log_days            = 14

  # Your Kafka is reached through this gateway, and so are AWS's services.
  network = { nat = "single", flow_log_days = 0 }

  stream = {
    kind = "external"
    external = {
      brokers        = var.kafka.brokers
      sasl_mechanism = var.kafka.sasl_mechanism
      sasl_username  = var.kafka.sasl_username
      secret_arn     = var.kafka.secret_arn
    }
  }

  database = {
    instance_class = "db.t4g.small"
    backup_days    = 7
    log_days       = 7
  }

  front_door = { rate = 200, burst = 400, log_days = 7 }
}
