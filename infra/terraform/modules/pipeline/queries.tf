# Saved queries of CloudWatch Logs Insights (docs/logs.md), over the logs of all functions.

locals {
  saved_queries = "${path.module}/../../../observe/logs-insights"
}

resource "aws_cloudwatch_query_definition" "this" {
  for_each = fileset(local.saved_queries, "*.txt")

  name            = "${var.name}/${trimsuffix(each.key, ".txt")}"
  query_string    = file("${local.saved_queries}/${each.key}")
  log_group_names = sort([for function in values(local.all_functions) : function.log_group])
}
