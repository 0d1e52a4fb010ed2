locals {
  pollers = { for name, mapping in { processor = var.mappings.processor, archiver = var.mappings.archiver, notifier = var.mappings.notifier } :
  name => var.mappings.mode == "provisioned" ? mapping.pollers : null }

  mappings = merge(local.mappings_of_all, var.webhooks == null ? {} : {
    notifier = { function = "notifier", topic = "processed-events", reports_failed_records = false }
  })

  mappings_of_all = {
    processor         = { function = "processor", topic = "raw-events", reports_failed_records = false }
    archiver-raw      = { function = "archiver", topic = "raw-events", reports_failed_records = var.mappings.batch_response == "partial" }
    archiver-outcomes = { function = "archiver", topic = "processed-events", reports_failed_records = var.mappings.batch_response == "partial" }
  }

  external = local.is_msk ? null : {
    brokers        = var.stream.external.brokers
    sasl_mechanism = var.stream.external.sasl_mechanism
    secret_arn     = var.stream.external.secret_arn
    # Without them, the pollers reach brokers on the Internet by themselves.
    subnet_ids        = var.stream.external.inside_vpc || var.stream.external.private_link != null ? module.network.subnet_ids : []
    security_group_id = module.network.functions_security_group_id
  }
}

module "mapping" {
  source   = "../mapping"
  for_each = local.mappings

  function_arn           = module.function[each.value.function].alias_arn
  topic                  = each.value.topic
  consumer_group         = each.key
  cluster_arn            = module.stream.cluster_arn
  external               = local.external
  batch_size             = var.mappings[each.value.function].batch_size
  window_sec             = var.mappings[each.value.function].window_sec
  pollers                = local.pollers[each.value.function]
  reports_failed_records = each.value.reports_failed_records
  on_failure_bucket_arn  = var.mappings.keep_failed ? module.archive.arn : null
}

locals {
  routes = merge(
    { for route in setproduct(["POST", "OPTIONS"], ["/event", "/events", "/events/batch"]) : join(" ", route) => "ingest" },
    # An id may contain slashes.
    { for path in ["/events", "/events/{id+}", "/campaigns/{id}/stats", "/stats", "/addresses/top", "/stream", "/openapi.json"] : "GET ${path}" => "query" },
    # Pages and their files; a change is a POST.
    var.query.console == null ? {} : { for route in setproduct(["GET", "POST"], ["/console", "/console/{page+}"]) : join(" ", route) => "query" },
  )
}

module "front_door" {
  source = "../front_door"

  name   = var.name
  routes = local.routes
  functions = { for name in ["ingest", "query"] : name => {
    function_name    = module.function[name].name
    alias            = module.function[name].alias
    alias_invoke_arn = module.function[name].alias_invoke_arn
  } }
  throttle = { rate = var.front_door.rate, burst = var.front_door.burst }
  log_days = var.front_door.log_days
  domain   = var.front_door.domain
}

module "schedule" {
  source = "../schedule"
  for_each = merge({
    maintainer = { expression = "rate(1 hour)", action = "maintain" }
    rescorer   = { expression = "rate(1 minute)", action = "rescore" }
    aggregator = { expression = "rate(1 minute)", action = "aggregate" }
  }, var.webhooks == null ? {} : { notifier = { expression = "rate(1 minute)", action = "retry" } })

  name         = "${var.name}-${each.key}"
  expression   = each.value.expression
  function_arn = local.all_functions[each.key].alias_arn
  input        = jsonencode({ action = each.value.action, by = "schedule" })
}
