locals {
  logs_flows = local.makes_vpc && var.flow_log_days > 0
}

resource "aws_cloudwatch_log_group" "flows" {
  #checkov:skip=CKV_AWS_158: CloudWatch encrypts it with a key of its own; it holds no payloads
  count             = local.logs_flows ? 1 : 0
  name              = "/forebay/${var.name}/flows"
  retention_in_days = var.flow_log_days
}

resource "aws_flow_log" "this" {
  count           = local.logs_flows ? 1 : 0
  vpc_id          = aws_vpc.this[0].id
  traffic_type    = "REJECT"
  log_destination = aws_cloudwatch_log_group.flows[0].arn
  iam_role_arn    = aws_iam_role.flows[0].arn
}

resource "aws_iam_role" "flows" {
  count = local.logs_flows ? 1 : 0
  name  = "${var.name}-flow-logs"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "vpc-flow-logs.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "flows" {
  count = local.logs_flows ? 1 : 0
  name  = "write"
  role  = aws_iam_role.flows[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
      Resource = [aws_cloudwatch_log_group.flows[0].arn, "${aws_cloudwatch_log_group.flows[0].arn}:*"]
    }]
  })
}
