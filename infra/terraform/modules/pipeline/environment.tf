# The settings of each function. Their names and meanings are in functions/*/README.md.

locals {
  # Which function reads which setting. A test of each function compares its README with its code.
  readmes    = { for name in keys(local.functions) : name => file("${path.module}/../../../../functions/${name}/README.md") }
  documented = { for name, text in local.readmes : name => toset(concat(["LOG_LEVEL", "METRICS_NAMESPACE"], keys(local.traces), flatten(regexall("(?m)^\\| `([A-Z][A-Z0-9_]+)` \\|", text)))) }
  # Without streams query has no Kafka, and without the console it invokes nobody.
  left_out = concat(var.query.stream ? [] : ["KAFKA_", "MSK_", "STREAM"], var.query.console == null ? ["CONSOLE", "MAINTAINER_", "REDRIVER_"] : [])
  reads = merge(local.documented, {
    query = toset([for setting in local.documented.query : setting if !anytrue([for prefix in local.left_out : startswith(setting, prefix)])])
  })

  # Of the metrics that the functions write, and of the alarms on them.
  metrics_namespace = lookup(var.settings, "METRICS_NAMESPACE", "Forebay/${var.name}")

  # The aliases that functions call, by their names: a reference would be a circle, because the settings are a part of the function.
  called = { for name in ["maintainer", "redriver", "scorer"] : name => "arn:aws:lambda:${local.region}:${local.account_id}:function:${var.name}-${name}:live" }

  # Every function reads them. Off is their default.
  traces = var.traces.to == "off" ? {} : merge(
    { TRACES = var.traces.to, OTEL_TRACES_SAMPLER_ARG = tostring(var.traces.ratio), TRACE_USER_ID = var.traces.user_id },
    var.traces.endpoint == null ? {} : { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT = var.traces.endpoint },
  )

  # What the parts that were made are called.
  made = merge(
    module.stream.environment,
    {
      ACCESS_TABLE        = module.state.access_table.name
      ARCHIVE_BUCKET      = module.archive.name
      BATCH_RESPONSE      = var.mappings.batch_response
      DEDUP_STORE         = var.dedup_store
      MAINTAINER_FUNCTION = local.called.maintainer
      METRICS_NAMESPACE   = local.metrics_namespace
      REDRIVER_FUNCTION   = local.called.redriver
      SCORER_FUNCTION     = local.called.scorer
    },
    var.query.stream ? { STREAM = "on" } : {},
    var.query.console == null ? {} : { CONSOLE = "on", CONSOLE_KEY_SECRET_ARN = var.query.console.key_secret_arn },
    var.webhooks == null ? {} : { WEBHOOK_KEY_SECRET_ARN = var.webhooks.key_secret_arn },
    var.dedup_store == "dynamodb" ? { DEDUP_TABLE = module.state.dedup_table.name } : {},
  )

  # The timeout of a look-up and its longest wait together must fit into the function's.
  own = {
    query = merge({ DB_STATEMENT_TIMEOUT_SEC = "5", MAX_WAIT_MS = "10000" }, module.database.replica_environment)
  }

  database = { for name in keys(local.functions) : name => name == "maintainer" ? module.database.owner_environment : module.database.environment }

  environment = { for name, reads in local.reads : name => {
    for setting, value in merge(local.made, local.traces, local.database[name], lookup(local.own, name, {}), var.settings) :
    setting => value if contains(reads, setting)
  } }

  unread = setsubtract(keys(var.settings), flatten([for reads in values(local.reads) : tolist(reads)]))
}

resource "terraform_data" "settings" {
  lifecycle {
    precondition {
      condition     = length(local.unread) == 0
      error_message = "No function reads these settings: ${join(", ", local.unread)}. functions/*/README.md list those that there are."
    }
  }
}
