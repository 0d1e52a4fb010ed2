# One alarm, or more, for each line of "Alarms" in a function's README. `about` is a part of that line: a check compares the
# two lists. Functions on Lambda have no metrics of their own yet, so most alarms count lines of their logs.

locals {
  # In minutes; a minute is the shortest period of a log metric that is worth it.
  minute = 60

  alarms = {
    ingest = {
      unavailable   = { about = "Any 503 for 5 minutes", log = "{ $.message = \"kafka did not acknowledge in time\" || $.message = \"request failed\" }", periods = 5 }
      kafka-breaker = { about = "`circuit_breaker_state{dependency=\"kafka\"}` at 2", log = "{ $.message = \"breaker opened*\" && $.dependency = \"kafka\" }" }
      slow          = { about = "`publish_duration_seconds` p99 above 1 s", log = "{ $.message = \"request answered\" && $.duration_ms >= 0 }", value = "$.duration_ms", statistic = "p99", threshold = 1000, periods = 5 }
      dynamodb-down = { about = "\"cannot take rate limit tokens\" or \"API keys cannot be looked up\"", log = "{ $.message = \"cannot take rate limit tokens\" || $.message = \"API keys cannot be looked up*\" }" }
      rejected      = { about = "`events_rejected_total{reason=\"schema_violation\"}` rises", log = "{ $.reasons = \"*schema_violation*\" || $.tag = \"schema_violation\" }", threshold = var.rejected_per_5_min, period = 300 }
    }

    processor = {
      errors          = { about = "Batches that fail (`Errors`) for minutes", metric = "Errors", periods = 5 }
      lag             = { about = "the consumer lag grows", metric = "OffsetLag", statistic = "Maximum", growing = true, period = 300, periods = 2 }
      unknown-types   = { about = "`unknown-types` in the log", log = "{ $.tag = \"unknown-types\" }" }
      dead-letters    = { about = "`dead_lettered` in the log line", log = "{ $.dead_lettered > 0 }", value = "$.dead_lettered" }
      unscored        = { about = "`events_unscored_total` rising", log = "{ $.unscored > 0 }", value = "$.unscored", periods = 5, breaching = 2 }
      scorer-breaker  = { about = "`circuit_breaker_state{dependency=\"scorer\"}` at 2", log = "{ $.message = \"breaker opened*\" && $.dependency = \"scorer\" }" }
      breaker         = { about = "`circuit_breaker_state` of `dynamodb`, `postgres` or `kafka` at 2", log = "{ $.message = \"breaker opened*\" && ($.dependency = \"dynamodb\" || $.dependency = \"postgres\" || $.dependency = \"kafka\") }" }
      incarnations    = { about = "`incarnations_begun_total` above zero", log = "{ $.message = \"another record is at a position that is recorded*\" }" }
      payload-differs = { about = "`payload_differs_total` rising", log = "{ $.payload_differs > 0 }", value = "$.payload_differs", threshold = 10, period = 300 }
    }

    scorer = {
      errors    = { about = "`Errors` above 0", metric = "Errors" }
      throttles = { about = "`Throttles` above 0", metric = "Throttles" }
    }

    archiver = {
      lag       = { about = "`OffsetLag` of either consumer group grows for 10 minutes", metric = "OffsetLag", statistic = "Maximum", growing = true, period = 300, periods = 2 }
      breaker   = { about = "`circuit_breaker_state{dependency=\"s3\"}` at 2", log = "{ $.message = \"breaker opened*\" && $.dependency = \"s3\" }" }
      errors    = { about = "`Errors` of the function above zero for 15 minutes", metric = "Errors", period = 300, periods = 3 }
      different = { about = "\"an archive object with this name and different bytes exists\"", log = "{ $.message = \"an archive object with this name and different bytes exists*\" }", threshold = 3, period = 3600 }
    }

    query = {
      failing       = { about = "Any 5xx for 5 minutes", log = "{ $.message = \"query failed\" }", periods = 5 }
      dynamodb-down = { about = "\"cannot take rate limit tokens\"", log = "{ $.message = \"cannot take rate limit tokens\" }" }
      no-redrives   = { about = "\"cannot look up the redrives of an event\"", log = "{ $.message = \"cannot look up the redrives of an event\" }" }
      slow          = { about = "p99 above 1 s without `wait_ms`", log = "{ $.message = \"event looked up\" && $.duration_ms >= 0 }", value = "$.duration_ms", statistic = "p99", threshold = 1000, periods = 15 }
    }

    redriver = {
      errors = { about = "`Errors` above zero", metric = "Errors" }
      # A run that is killed writes nothing more; Lambda does.
      killed = { about = "still `started` an hour later", log = "?\"Task timed out\" ?\"Runtime exited\" ?\"signal: killed\"" }
    }

    replayer = {
      errors    = { about = "`Errors` above zero", metric = "Errors" }
      differing = { about = "`counts.restored.differing` above zero", log = "{ $.message = \"the ledger has another entry for this record already*\" }" }
      damaged   = { about = "`counts.damaged_objects` above zero", log = "{ $.message = \"an archived object is damaged or missing*\" }" }
    }

    rescorer = {
      waiting       = { about = "`left` in the log line", log = "{ $.message = \"rescorer run finished\" && $.left >= 0 }", value = "$.left", statistic = "Minimum", periods = 15 }
      scorer-down   = { about = "`ended` is `scorer-down` for several runs", log = "{ $.ended = \"scorer-down\" }", periods = 5, breaching = 3 }
      unscorable    = { about = "`unscorable` above zero", log = "{ $.unscorable > 0 }", value = "$.unscorable" }
      undeliverable = { about = "`undeliverable` above zero", log = "{ $.undeliverable > 0 }", value = "$.undeliverable" }
      errors        = { about = "or `Errors`", metric = "Errors" }
    }

    maintainer = {
      errors = { about = "`Errors` above zero at a deployment", metric = "Errors" }
      idle   = { about = "No successful run for two days", log = "{ $.message = \"topics, schema and partitions are up to date\" }", comparison = "LessThanThreshold", threshold = 1, period = 86400, periods = 2, missing = "breaching" }
      lost   = { about = "\"offsets without an outcome are past the ledger's retention\"", log = "{ $.message = \"offsets without an outcome are past the ledger's retention\" }" }
    }
  }

  all_alarms = merge([for function, alarms in local.alarms : { for name, alarm in alarms : "${function}-${name}" => merge(alarm, { function = function }) }]...)
}

module "alarm" {
  source   = "../alarm"
  for_each = local.all_alarms

  name        = "${var.name}-${each.key}"
  description = "${each.value.function}: ${each.value.about}"
  topic_arn   = aws_sns_topic.alarms.arn

  log = !can(each.value.log) ? null : {
    group   = local.all_functions[each.value.function].log_group
    pattern = each.value.log
    value   = try(each.value.value, "1")
  }
  metric = !can(each.value.metric) ? null : {
    namespace  = "AWS/Lambda"
    name       = each.value.metric
    dimensions = { FunctionName = local.all_functions[each.value.function].name }
  }

  only_if_growing   = try(each.value.growing, false)
  statistic         = try(each.value.statistic, "Sum")
  comparison        = try(each.value.comparison, "GreaterThanThreshold")
  threshold         = try(each.value.threshold, 0)
  period_sec        = try(each.value.period, local.minute)
  periods           = try(each.value.periods, 1)
  breaching_periods = try(each.value.breaching, try(each.value.periods, 1))
  missing_data      = try(each.value.missing, "notBreaching")
}

# Of the newest version alone, while the alias gives it a part of the calls: only then does CloudWatch tell the versions of an
# alias apart. Each version has an alarm of its own, so that the alarm of a version that failed does not hold up its correction.
module "new_version_alarm" {
  source   = "../alarm"
  for_each = module.function

  name        = "${var.name}-${each.key}-version-${each.value.version}"
  description = "Version ${each.value.version} of ${each.key} fails: infra/ci/canary.py puts the version before back"
  topic_arn   = aws_sns_topic.alarms.arn

  metric = {
    namespace = "AWS/Lambda"
    name      = "Errors"
    dimensions = {
      FunctionName    = each.value.name
      Resource        = "${each.value.name}:${each.value.alias}"
      ExecutedVersion = each.value.version
    }
  }

  only_if_growing   = false
  statistic         = "Sum"
  comparison        = "GreaterThanThreshold"
  threshold         = 0
  period_sec        = local.minute
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
