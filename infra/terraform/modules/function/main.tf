locals {
  log_group = "/aws/lambda/${var.name}"
}

resource "aws_lambda_function" "this" {
  #checkov:skip=CKV_AWS_50: the functions send their traces themselves (docs/traces.md)
  #checkov:skip=CKV_AWS_116: a failed request of a schedule is repeated by the next one
  #checkov:skip=CKV_AWS_173: the environment holds no secrets
  #checkov:skip=CKV_AWS_272: the workflow deploy attests where packages come from; signing for Lambda needs a profile of the account
  function_name = var.name
  description   = var.description
  role          = aws_iam_role.this.arn

  runtime          = "provided.al2023"
  handler          = "bootstrap"
  architectures    = [var.architecture]
  filename         = var.package
  source_code_hash = fileexists(var.package) ? filebase64sha256(var.package) : null
  publish          = true

  memory_size                    = var.memory_mb
  timeout                        = var.timeout_sec
  reserved_concurrent_executions = var.reserved_concurrency

  environment {
    variables = var.environment
  }

  # The function writes JSON itself.
  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.this.name
  }

  dynamic "vpc_config" {
    for_each = var.network == null ? [] : [var.network]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = [vpc_config.value.security_group_id]
    }
  }

  # Without them the function is made and cannot start.
  depends_on = [aws_iam_role_policy.this]

  lifecycle {
    precondition {
      condition     = fileexists(var.package)
      error_message = "${var.package} does not exist: run `make package` first, or set packages_dir."
    }
  }
}

resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158: CloudWatch encrypts it with a key of its own; it holds no payloads
  name              = local.log_group
  retention_in_days = var.log_days
}

resource "terraform_data" "goes_live_after" {
  input = var.goes_live_after
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  description      = "What triggers and operators invoke"
  function_name    = aws_lambda_function.this.function_name
  function_version = coalesce(var.live_version, aws_lambda_function.this.version)

  lifecycle {
    # A weight is there only while infra/ci/canary.py tries a new version.
    ignore_changes = [routing_config]
  }

  depends_on = [terraform_data.goes_live_after]
}

resource "aws_lambda_function_event_invoke_config" "live" {
  function_name                = aws_lambda_function.this.function_name
  qualifier                    = aws_lambda_alias.live.name
  maximum_retry_attempts       = var.async_retries
  maximum_event_age_in_seconds = 3600
}
