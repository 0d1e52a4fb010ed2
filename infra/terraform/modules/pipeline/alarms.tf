# The alarms of infra/observe/alerts.yaml, which is also Prometheus's list. infra/observe/README.md describes its fields.

locals {
  listed = yamldecode(file("${path.module}/../../../observe/alerts.yaml"))
  rows   = { for row in local.listed.alerts : row.name => row if !can(row.cloudwatch.none) }

  # By the name of the row: values that environments set.
  thresholds = var.rejected_per_5_min == null ? {} : { schema-violations = var.rejected_per_5_min }

  # An alarm for each service of a row, or for each entry of `each`, because an alarm names all dimensions of its metrics. A function that
  # is switched off has none.
  of_rows = merge([for name, row in local.rows : {
    for one in try(row.cloudwatch.each, [for service in row.services : { service = service }]) :
    join("-", concat([name], length(row.services) == 1 ? [] : [one.service], values(try(one.dimensions, {})))) => {
      service    = one.service
      about      = "${row.severity}, ${one.service}: ${row.summary}. docs/runbook.md#${row.runbook}"
      log        = try({ pattern = row.cloudwatch.log, value = try(row.cloudwatch.value, "1") }, null)
      sums       = try(row.cloudwatch.sums, { level = [row.cloudwatch.metric] }, {})
      dimensions = try(one.dimensions, {})
      expression = try(row.cloudwatch.expression, null)
      comparison = can(row.cloudwatch.above) ? "GreaterThanThreshold" : "LessThanThreshold"
      threshold  = try(local.thresholds[name], row.cloudwatch.above, row.cloudwatch.below)
      period     = row.cloudwatch.period
      periods    = row.cloudwatch.periods
      breaching  = try(row.cloudwatch.breaching, row.cloudwatch.periods)
      missing    = row.cloudwatch.missing
      is_part    = false
    } if contains(keys(local.functions), one.service)
  }]...)

  rates = merge([for slo in local.listed.slos : {
    for rate in local.listed.burn_rates : "${slo.name}-${rate.name}" => { slo = slo, rate = rate }
  }]...)

  unit_sec = { m = 60, h = 3600, d = 86400 }
  # The longest period of CloudWatch. Of a window of several days each must be over the rate.
  day_sec = 86400

  # Two alarms for each rate of an objective: over the long window and over the short one.
  of_objectives = merge([for name, burn in local.rates : {
    for window, expression in {
      (burn.rate.long)  = "IF( FILL( bad , 0 ) >= ${local.listed.least_bad} , FILL( bad , 0 ) / events , 0 )"
      (burn.rate.short) = "FILL( bad , 0 ) / events"
      } : "${name}-${window}" => {
      service = burn.slo.services[0]
      about   = "A part of ${name}"
      log     = null
      sums = {
        for sum, statistic in { events = "SampleCount", bad = "TC(${try(burn.slo.below, "")}:)" } : sum => try(
          burn.slo.cloudwatch[sum],
          [for dimensions in burn.slo.cloudwatch.each : { metric = burn.slo.histogram, dimensions = dimensions, statistic = statistic }],
        )
      }
      dimensions = {}
      expression = expression
      comparison = "GreaterThanThreshold"
      threshold  = burn.rate.factor * (1 - burn.slo.objective)
      period     = min(local.window_sec[window], local.day_sec)
      periods    = ceil(local.window_sec[window] / local.day_sec)
      breaching  = ceil(local.window_sec[window] / local.day_sec)
      # Without events there is no value, and no budget is used.
      missing = "notBreaching"
      is_part = true
    }
  }]...)

  window_sec = { for window in distinct(flatten([for rate in local.listed.burn_rates : [rate.long, rate.short]])) :
    window => tonumber(regex("[0-9]+", window)) * local.unit_sec[regex("[mhd]", window)]
  }

  all_alarms = merge(local.of_rows, local.of_objectives)

  # A sum of several takes a metric without a value for 0. In an expression the names of sums stand between spaces.
  sums = { for key, alarm in local.all_alarms : key => {
    for sum, metrics in alarm.sums : sum => length(metrics) == 1 ? "${sum}_0" : "(${join(" + ", [for index in range(length(metrics)) : "FILL(${sum}_${index}, 0)"])})"
  } }
}

module "alarm" {
  source   = "../alarm"
  for_each = local.all_alarms

  name        = "${var.name}-${each.key}"
  description = each.value.about
  topic_arn   = aws_sns_topic.alarms.arn
  is_part     = each.value.is_part

  log = each.value.log == null ? null : {
    namespace = local.metrics_namespace
    group     = local.all_functions[each.value.service].log_group
    pattern   = each.value.log.pattern
    value     = each.value.log.value
  }
  metrics = merge([for sum, metrics in each.value.sums : {
    for index, metric in metrics : "${sum}_${index}" => {
      namespace  = can(metric.lambda) ? "AWS/Lambda" : local.metrics_namespace
      name       = try(metric.lambda, metric.metric)
      statistic  = metric.statistic
      dimensions = can(metric.lambda) ? tomap({ FunctionName = local.all_functions[each.value.service].name }) : tomap(merge({ service = each.value.service }, try(metric.dimensions, {}), each.value.dimensions))
    }
  }]...)
  expression = each.value.expression == null ? null : join(" ", [for word in split(" ", each.value.expression) : lookup(local.sums[each.key], word, word)])

  comparison        = each.value.comparison
  threshold         = each.value.threshold
  period_sec        = each.value.period
  periods           = each.value.periods
  breaching_periods = each.value.breaching
  missing_data      = each.value.missing
}

# Both windows are over the rate. The short one ends the alarm soon after its cause.
resource "aws_cloudwatch_composite_alarm" "objective" {
  for_each = local.rates

  alarm_name        = "${var.name}-${each.key}"
  alarm_description = "${each.value.rate.severity}, ${each.value.slo.services[0]}: ${each.value.slo.summary}: the error budget is used up at more than ${each.value.rate.factor} times the allowed rate. docs/runbook.md#${each.value.slo.runbook}"
  alarm_rule        = join(" AND ", [for window in [each.value.rate.long, each.value.rate.short] : "ALARM(\"${module.alarm["${each.key}-${window}"].name}\")"])
  alarm_actions     = [aws_sns_topic.alarms.arn]
  ok_actions        = [aws_sns_topic.alarms.arn]
}

# Of the newest version alone, while the alias gives it a part of the calls: only then does CloudWatch tell the versions of an
# alias apart. Each version has an alarm of its own, so that the alarm of a version that failed does not hold up its correction.
module "new_version_alarm" {
  source   = "../alarm"
  for_each = module.function

  name        = "${var.name}-${each.key}-version-${each.value.version}"
  description = "Version ${each.value.version} of ${each.key} fails: infra/ci/canary.py puts the version before back"
  topic_arn   = aws_sns_topic.alarms.arn

  metrics = {
    errors = {
      namespace = "AWS/Lambda"
      name      = "Errors"
      dimensions = {
        FunctionName    = each.value.name
        Resource        = "${each.value.name}:${each.value.alias}"
        ExecutedVersion = each.value.version
      }
      statistic = "Sum"
    }
  }

  comparison        = "GreaterThanThreshold"
  threshold         = 0
  period_sec        = 60
  periods           = 1
  breaching_periods = 1
  missing_data      = "notBreaching"
}

# Objects that a person has to look at. EventBridge sends a message for each, because a metric of single prefixes costs more.
locals {
  rings = {
    parked = { function = "redriver", about = "New objects under `parked/`", prefix = "parked/" }
    failed = { function = "redriver", about = "New objects under `aws/lambda/`", prefix = "aws/lambda/" }
  }
}

resource "aws_cloudwatch_event_rule" "object" {
  for_each = local.rings

  name        = "${var.name}-${each.key}-object"
  description = join(": ", compact([each.value.function, each.value.about]))
  event_pattern = jsonencode({
    source      = ["aws.s3"]
    detail-type = ["Object Created"]
    detail = {
      bucket = { name = [module.archive.name] }
      object = { key = [{ prefix = each.value.prefix }] }
    }
  })
}

resource "aws_cloudwatch_event_target" "object" {
  for_each = local.rings

  rule = aws_cloudwatch_event_rule.object[each.key].name
  arn  = aws_sns_topic.alarms.arn
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = aws_kms_key.alarms.id
}

# CloudWatch and EventBridge cannot use the key that SNS itself has.
resource "aws_kms_key" "alarms" {
  description         = "Messages of the alarms of ${var.name}"
  enable_key_rotation = true
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "Administration"
        Effect    = "Allow"
        Principal = { AWS = "arn:aws:iam::${local.account_id}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "Senders"
        Effect    = "Allow"
        Principal = { Service = ["cloudwatch.amazonaws.com", "events.amazonaws.com"] }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource  = "*"
        Condition = { StringEquals = { "aws:SourceAccount" = local.account_id } }
      },
    ]
  })
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Senders"
      Effect    = "Allow"
      Principal = { Service = ["cloudwatch.amazonaws.com", "events.amazonaws.com"] }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms.arn
    }]
  })
}

resource "aws_sns_topic_subscription" "email" {
  count     = var.alarm_email == null ? 0 : 1
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}
