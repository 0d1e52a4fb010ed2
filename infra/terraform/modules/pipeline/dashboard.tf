locals {
  names = { for name, function in local.all_functions : name => function.name }

  # The pipeline's own metrics, by their dimensions: alarms name each, a picture may search for what there is.
  own_metric = { for name, labels in {
    received      = ["events_received_total", []]
    rejected      = ["events_rejected_total", ["reason"]]
    answers       = ["http_requests_total", ["route", "status"]]
    answer_time   = ["http_request_duration_seconds", ["route"]]
    outcomes      = ["events_processed_total", ["status"]]
    delay         = ["event_delay_seconds", []]
    oldest        = ["oldest_record_age_seconds", []]
    archive_delay = ["archive_delay_seconds", ["topic"]]
    archived      = ["records_archived_total", ["topic"]]
    dead_letters  = ["dead_letters_total", ["reason"]]
    redrives      = ["redrives_total", ["result"]]
    breakers      = ["circuit_breaker_state", ["dependency"]]
    calls         = ["dependency_duration_seconds", ["dependency"]]
    failures      = ["dependency_failures_total", ["dependency"]]
    retries       = ["dependency_retries_total", ["dependency"]]
    steps         = ["step_duration_seconds", ["step"]]
    unscored      = ["unscored_events", []]
    unaccounted   = ["unaccounted_records", []]
  } : name => { name = labels[0], schema = join(",", concat(["\"${local.metrics_namespace}\"", "service"], labels[1])) } }

  charts = [
    { title = "Events received: requests by status", metrics = [for metric in ["Count", "4xx", "5xx"] : ["AWS/ApiGateway", metric, "ApiId", module.front_door.api_id]], stat = "Sum" },
    { title = "Request latency, p99, ms", metrics = [["AWS/ApiGateway", "Latency", "ApiId", module.front_door.api_id]], stat = "p99" },
    { title = "Invocations", metrics = [for name in values(local.names) : ["AWS/Lambda", "Invocations", "FunctionName", name]], stat = "Sum" },
    { title = "Errors", metrics = [for name in values(local.names) : ["AWS/Lambda", "Errors", "FunctionName", name]], stat = "Sum" },
    { title = "Duration, p99, ms", metrics = [for name in values(local.names) : ["AWS/Lambda", "Duration", "FunctionName", name]], stat = "p99" },
    { title = "Records that wait in Kafka", metrics = [for name in ["processor", "archiver"] : ["AWS/Lambda", "OffsetLag", "FunctionName", local.names[name]]], stat = "Maximum" },
    { title = "Postgres: CPU, %", metrics = [["AWS/RDS", "CPUUtilization", "DBInstanceIdentifier", module.database.instance_identifier]], stat = "Average" },
    { title = "Postgres: free storage, bytes", metrics = [["AWS/RDS", "FreeStorageSpace", "DBInstanceIdentifier", module.database.instance_identifier]], stat = "Minimum" },
    { title = "DynamoDB: throttled requests", metrics = [for table in compact([module.state.access_table.name, try(module.state.dedup_table.name, null)]) : ["AWS/DynamoDB", "ThrottledRequests", "TableName", table]], stat = "Sum" },
    # Flow
    { title = "Events acknowledged", search = ["received"], stat = "Sum" },
    { title = "Events refused, by reason", search = ["rejected"], stat = "Sum" },
    { title = "Records by outcome", search = ["outcomes"], stat = "Sum" },
    { title = "Records archived", search = ["archived"], stat = "Sum" },
    { title = "Events without a score; records without an outcome", search = ["unscored", "unaccounted"], stat = "Maximum" },
    # Latency
    { title = "Answers by status", search = ["answers"], stat = "Sum" },
    { title = "Answers, p95, s", search = ["answer_time"], stat = "p95" },
    { title = "From receipt to row, p99, s", search = ["delay"], stat = "p99" },
    { title = "From Kafka to the archive, p99, s", search = ["archive_delay"], stat = "p99" },
    { title = "Oldest record of a batch, s", search = ["oldest"], stat = "p99" },
    { title = "Steps of a batch, p99, s", search = ["steps"], stat = "p99" },
    # Dependencies
    { title = "Circuit breakers: 2 is open", search = ["breakers"], stat = "Maximum" },
    { title = "Attempts at dependencies, p99, s", search = ["calls"], stat = "p99" },
    { title = "Failed and repeated attempts", search = ["failures", "retries"], stat = "Sum" },
    # Dead letters
    { title = "Dead letters by reason", search = ["dead_letters"], stat = "Sum" },
    { title = "Redrives by result", search = ["redrives"], stat = "Sum" },
  ]

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
        metrics = try(chart.metrics, [for name in chart.search : [{
          expression = "SEARCH('{${local.own_metric[name].schema}} MetricName=\"${local.own_metric[name].name}\"', '${chart.stat}', 60)"
        }]])
        stat   = chart.stat
        period = 60
        view   = "timeSeries"
      }
    }]
  })
}
