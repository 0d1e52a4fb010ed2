locals {
  watched = var.log == null ? var.metrics : {
    lines = { namespace = var.log.namespace, name = var.name, dimensions = null, statistic = "Sum" }
  }

  # An alarm on one metric has it as arguments of its own.
  only          = var.expression == null ? one(values(local.watched)) : null
  is_simple     = local.only != null && contains(["Average", "Maximum", "Minimum", "SampleCount", "Sum"], try(local.only.statistic, ""))
  in_expression = var.expression == null ? {} : local.watched
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  count = var.log == null ? 0 : 1

  name           = var.name
  log_group_name = var.log.group
  pattern        = var.log.pattern

  metric_transformation {
    namespace = local.watched.lines.namespace
    name      = local.watched.lines.name
    value     = var.log.value
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  alarm_name          = var.name
  alarm_description   = var.description
  alarm_actions       = var.is_part ? [] : [var.topic_arn]
  ok_actions          = var.is_part ? [] : [var.topic_arn]
  comparison_operator = var.comparison
  threshold           = var.threshold
  evaluation_periods  = var.periods
  datapoints_to_alarm = var.breaching_periods
  treat_missing_data  = var.missing_data

  namespace          = try(local.only.namespace, null)
  metric_name        = try(local.only.name, null)
  dimensions         = try(local.only.dimensions, null)
  period             = local.only == null ? null : var.period_sec
  statistic          = local.is_simple ? local.only.statistic : null
  extended_statistic = local.is_simple ? null : try(local.only.statistic, null)

  dynamic "metric_query" {
    for_each = local.in_expression

    content {
      id = metric_query.key

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        period      = var.period_sec
        stat        = metric_query.value.statistic
      }
    }
  }

  dynamic "metric_query" {
    for_each = var.expression == null ? [] : [var.expression]

    content {
      id          = "result"
      expression  = metric_query.value
      label       = "result"
      return_data = true
    }
  }
}
