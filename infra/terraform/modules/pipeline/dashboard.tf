locals {
  names = { for name, function in local.all_functions : name => function.name }

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
        title   = chart.title
        region  = local.region
        metrics = chart.metrics
        stat    = chart.stat
        period  = 60
        view    = "timeSeries"
      }
    }]
  })
}
