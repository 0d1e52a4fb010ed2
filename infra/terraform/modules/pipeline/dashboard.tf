locals {
  names   = { for name, function in local.all_functions : name => function.name }
  servers = concat([module.database.instance_identifier], module.database.replica_identifiers)

  # Without writes RDS shows up to five minutes.
  lag_charts = [for replica in module.database.replica_identifiers : {
    title = "Postgres: lag of the replica, s", metrics = [["AWS/RDS", "ReplicaLag", "DBInstanceIdentifier", replica]], stat = "Maximum"
  }]

  webhook_charts = var.webhooks == null ? [] : [
    { title = "Webhooks: attempts by result", search = [["webhook_attempts_total", "result"]], stat = "Sum" },
    { title = "Webhooks: time of an attempt, p99, s", search = [["webhook_attempt_duration_seconds"]], stat = "p99" },
    { title = "Webhooks that wait; dead, skipped", search = [["webhooks_waiting"], ["webhooks_dead_total"], ["webhooks_skipped_total"]], stat = "Maximum" },
    { title = "Webhooks: how long the oldest is overdue, s", search = [["webhook_overdue_seconds"]], stat = "Maximum" },
  ]

  # `search`: metrics of the functions with their dimensions besides `service`. Alarms name each value, and a picture shows those that there are.
  charts = concat([
    { title = "Events received: requests by status", metrics = [for metric in ["Count", "4xx", "5xx"] : ["AWS/ApiGateway", metric, "ApiId", module.front_door.api_id]], stat = "Sum" },
    { title = "Request latency, p99, ms", metrics = [["AWS/ApiGateway", "Latency", "ApiId", module.front_door.api_id]], stat = "p99" },
    { title = "Invocations", metrics = [for name in values(local.names) : ["AWS/Lambda", "Invocations", "FunctionName", name]], stat = "Sum" },
    { title = "Errors", metrics = [for name in values(local.names) : ["AWS/Lambda", "Errors", "FunctionName", name]], stat = "Sum" },
    { title = "Duration, p99, ms", metrics = [for name in values(local.names) : ["AWS/Lambda", "Duration", "FunctionName", name]], stat = "p99" },
    { title = "Records that wait in Kafka", metrics = [for name in distinct([for mapping in local.mappings : mapping.function]) : ["AWS/Lambda", "OffsetLag", "FunctionName", local.names[name]]], stat = "Maximum" },
    { title = "Postgres: CPU, %", metrics = [for server in local.servers : ["AWS/RDS", "CPUUtilization", "DBInstanceIdentifier", server]], stat = "Average" },
    { title = "Postgres: free storage, bytes", metrics = [for server in local.servers : ["AWS/RDS", "FreeStorageSpace", "DBInstanceIdentifier", server]], stat = "Minimum" },
    { title = "DynamoDB: throttled requests", metrics = [for table in compact([module.state.access_table.name, try(module.state.dedup_table.name, null)]) : ["AWS/DynamoDB", "ThrottledRequests", "TableName", table]], stat = "Sum" },
    # Flow
    { title = "Events acknowledged", search = [["events_received_total"]], stat = "Sum" },
    { title = "Events refused, by reason", search = [["events_rejected_total", "reason"]], stat = "Sum" },
    { title = "Records by outcome", search = [["events_processed_total", "status"]], stat = "Sum" },
    { title = "Records archived", search = [["records_archived_total", "topic"]], stat = "Sum" },
    { title = "Events without a score; records without an outcome", search = [["unscored_events"], ["unaccounted_records"]], stat = "Maximum" },
    { title = "Age of what no statistics count yet, s", search = [["unaggregated_age_seconds"]], stat = "Maximum" },
    # Latency
    { title = "Answers by status", search = [["http_requests_total", "route", "status"]], stat = "Sum" },
    { title = "Answers, p95, s", search = [["http_request_duration_seconds", "route"]], stat = "p95" },
    { title = "From receipt to row, p99, s", search = [["event_delay_seconds"]], stat = "p99" },
    { title = "From Kafka to the archive, p99, s", search = [["archive_delay_seconds", "topic"]], stat = "p99" },
    { title = "Oldest record of a batch, s", search = [["oldest_record_age_seconds"]], stat = "p99" },
    { title = "Steps of a batch, p99, s", search = [["step_duration_seconds", "step"]], stat = "p99" },
    # Dependencies
    { title = "Circuit breakers: 2 is open", search = [["circuit_breaker_state", "dependency"]], stat = "Maximum" },
    { title = "Attempts at dependencies, p99, s", search = [["dependency_duration_seconds", "dependency"]], stat = "p99" },
    { title = "Failed and repeated attempts", search = [["dependency_failures_total", "dependency"], ["dependency_retries_total", "dependency"]], stat = "Sum" },
    # Dead letters
    { title = "Dead letters by reason", search = [["dead_letters_total", "reason"]], stat = "Sum" },
    { title = "Redrives by result", search = [["redrives_total", "result"]], stat = "Sum" },
  ], local.lag_charts, local.webhook_charts)

  columns = 3
  width   = 8
  height  = 6
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({
    widgets = [for index, chart in local.charts : {
      type   = "metric"
      x      = (index % local.columns) * local.width
      y      = floor(index / local.columns) * local.height
      width  = local.width
      height = local.height
      properties = {
        title  = chart.title
        region = local.region
        metrics = try(chart.metrics, [for metric in chart.search : [{
          expression = "SEARCH('{${join(",", concat(["\"${local.metrics_namespace}\"", "service"], slice(metric, 1, length(metric))))}} MetricName=\"${metric[0]}\"', '${chart.stat}', 60)"
        }]])
        stat   = chart.stat
        period = 60
        view   = "timeSeries"
      }
    }]
  })
}
