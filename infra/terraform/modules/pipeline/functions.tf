locals {
  functions = merge(local.always, var.webhooks == null ? {} : { notifier = local.notifier })

  # Not one at a time, like the aggregator: its trigger sends the batches of several partitions at once.
  notifier = { memory_mb = 512, timeout_sec = 60, reserved_concurrency = -1, async_retries = 0, in_vpc = true, description = "Tells tenants' own servers about outcomes" }

  always = {
    ingest     = { memory_mb = 512, timeout_sec = 20, reserved_concurrency = -1, async_retries = 0, in_vpc = true, description = "Takes events over HTTP and writes them to Kafka" }
    processor  = { memory_mb = 1024, timeout_sec = 300, reserved_concurrency = -1, async_retries = 0, in_vpc = true, description = "Deduplicates, limits, scores and stores events" }
    scorer     = { memory_mb = 256, timeout_sec = 10, reserved_concurrency = -1, async_retries = 0, in_vpc = false, description = "Gives events a fraud score" }
    archiver   = { memory_mb = 512, timeout_sec = 300, reserved_concurrency = -1, async_retries = 0, in_vpc = false, description = "Writes Kafka records to S3" }
    query      = { memory_mb = 512, timeout_sec = 28, reserved_concurrency = -1, async_retries = 0, in_vpc = true, description = "Says what happened to an event" }
    redriver   = { memory_mb = 512, timeout_sec = 900, reserved_concurrency = 2, async_retries = 0, in_vpc = true, description = "Sends dead letters back" }
    replayer   = { memory_mb = 1024, timeout_sec = 900, reserved_concurrency = 2, async_retries = 0, in_vpc = true, description = "Rebuilds Postgres from the archive" }
    rescorer   = { memory_mb = 512, timeout_sec = 120, reserved_concurrency = 1, async_retries = 0, in_vpc = true, description = "Scores events that were stored unscored" }
    aggregator = { memory_mb = 512, timeout_sec = 60, reserved_concurrency = 1, async_retries = 0, in_vpc = true, description = "Adds recorded outcomes to statistics" }
    maintainer = { memory_mb = 512, timeout_sec = 900, reserved_concurrency = -1, async_retries = 2, in_vpc = true, description = "Topics, migrations, partitions, API keys, blocks" }
  }

  sizes = { for name, function in local.functions : name => {
    memory_mb            = try(coalesce(var.functions[name].memory_mb), function.memory_mb)
    timeout_sec          = try(coalesce(var.functions[name].timeout_sec), function.timeout_sec)
    reserved_concurrency = var.reserve_concurrency ? try(coalesce(var.functions[name].reserved_concurrency), function.reserved_concurrency) : -1
  } }

  in_vpc = { for name, function in local.functions : name => function.in_vpc || local.collector_port != null }

  network = {
    subnet_ids        = module.network.subnet_ids
    security_group_id = module.network.functions_security_group_id
  }
}

# Apart from the others, because they wait for it.
module "maintainer" {
  source = "../function"

  name                 = "${var.name}-maintainer"
  description          = local.functions.maintainer.description
  package              = "${var.packages_dir}/maintainer.zip"
  architecture         = var.architecture
  memory_mb            = local.sizes.maintainer.memory_mb
  timeout_sec          = local.sizes.maintainer.timeout_sec
  reserved_concurrency = local.sizes.maintainer.reserved_concurrency
  environment          = local.environment.maintainer
  statements           = local.statements.maintainer
  network              = local.network
  log_days             = var.log_days
  async_retries        = local.functions.maintainer.async_retries
  goes_live_after      = "nothing"
  # It runs before anything else moves, so nobody could go back to its old version.
  live_version = null
}

# The first time, and whenever the maintainer changes: topics, migrations, partitions, in this order. If one fails, so does the
# apply, and the next apply tries again. A plan invokes nothing.
resource "aws_lambda_invocation" "maintain" {
  function_name = module.maintainer.name
  qualifier     = module.maintainer.version
  input         = jsonencode({ action = "maintain", by = "terraform" })

  triggers = {
    code     = module.maintainer.version
    settings = sha256(jsonencode(local.environment.maintainer))
  }

  depends_on = [module.network, module.stream, module.database, module.state]
}

module "function" {
  source   = "../function"
  for_each = { for name, function in local.functions : name => function if name != "maintainer" }

  name                 = "${var.name}-${each.key}"
  description          = each.value.description
  package              = "${var.packages_dir}/${each.key}.zip"
  architecture         = var.architecture
  memory_mb            = local.sizes[each.key].memory_mb
  timeout_sec          = local.sizes[each.key].timeout_sec
  reserved_concurrency = local.sizes[each.key].reserved_concurrency
  environment          = local.environment[each.key]
  statements           = local.statements[each.key]
  network              = local.in_vpc[each.key] ? local.network : null
  log_days             = var.log_days
  async_retries        = each.value.async_retries
  goes_live_after      = aws_lambda_invocation.maintain.id
  live_version         = lookup(var.live_versions, each.key, null)
}

locals {
  all_functions = merge({ maintainer = module.maintainer }, module.function)
}
