locals {
  is_percentile = startswith(var.statistic, "p")

  metric = var.log == null ? var.metric : {
    namespace  = "Forebay"
    name       = var.name
    dimensions = null
  }
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  count = var.log == null ? 0 : 1

  name           = var.name
  log_group_name = var.log.group
  pattern        = var.log.pattern

  metric_transformation {
    namespace = local.metric.namespace
    name      = local.metric.name
    value     = var.log.value
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  alarm_name          = var.name
  alarm_description   = var.description
  alarm_actions       = [var.topic_arn]
  ok_actions          = [var.topic_arn]
  comparison_operator = var.comparison
  threshold           = var.threshold
  evaluation_periods  = var.periods
  datapoints_to_alarm = var.breaching_periods
  treat_missing_data  = var.missing_data

  namespace          = var.only_if_growing ? null : local.metric.namespace
  metric_name        = var.only_if_growing ? null : local.metric.name
  dimensions         = var.only_if_growing ? null : local.metric.dimensions
  period             = var.only_if_growing ? null : var.period_sec
  statistic          = var.only_if_growing || local.is_percentile ? null : var.statistic
  extended_statistic = var.only_if_growing || !local.is_percentile ? null : var.statistic

  dynamic "metric_query" {
    for_each = var.only_if_growing ? [local.metric] : []

    content {
      id = "level"

      metric {
        namespace   = metric_query.value.namespace
        metric_name = metric_query.value.name
        dimensions  = metric_query.value.dimensions
        period      = var.period_sec
        stat        = var.statistic
      }
    }
  }

  dynamic "metric_query" {
    for_each = var.only_if_growing ? ["DIFF(level)"] : []

    content {
      id          = "growth"
      expression  = metric_query.value
      label       = "growth"
      return_data = true
    }
  }
}
