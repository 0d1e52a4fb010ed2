resource "aws_iam_role" "this" {
  name        = var.name
  description = "Of the function ${var.name}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "lambda.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

locals {
  # The log group exists, so nobody needs to create one.
  logging = [{
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["arn:aws:logs:*:*:log-group:${local.log_group}:*"]
    condition = null
  }]

  # These take no ARN: the interface does not exist yet. Lambda makes them with this role; the program itself may not.
  interface_actions = [
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:AssignPrivateIpAddresses",
    "ec2:UnassignPrivateIpAddresses",
  ]
  joining_the_vpc = var.network == null ? [] : [{
    sid       = "JoinTheVpc"
    actions   = local.interface_actions
    resources = ["*"]
    condition = null
  }]

  statements = concat(local.logging, local.joining_the_vpc, var.statements)

  allowed = [for statement in local.statements : merge(
    { Sid = statement.sid, Effect = "Allow", Action = statement.actions, Resource = statement.resources },
    statement.condition == null ? {} : { Condition = statement.condition },
  )]
  denied = var.network == null ? [] : [{
    Sid       = "NotByTheProgram"
    Effect    = "Deny"
    Action    = local.interface_actions
    Resource  = ["*"]
    Condition = { ArnLike = { "lambda:SourceFunctionArn" = "arn:aws:lambda:*:*:function:${var.name}" } }
  }]
}

resource "aws_iam_role_policy" "this" {
  name   = "function"
  role   = aws_iam_role.this.id
  policy = jsonencode({ Version = "2012-10-17", Statement = concat(local.allowed, local.denied) })
}
