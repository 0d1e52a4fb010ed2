resource "aws_apigatewayv2_api" "this" {
  name          = var.name
  protocol_type = "HTTP"
  # ingest answers preflight requests itself, so there is no cors_configuration.

  # With a name of your own, the name of AWS would be a way around what stands before it.
  disable_execute_api_endpoint = var.domain != null
}

resource "aws_apigatewayv2_integration" "this" {
  for_each = var.functions

  api_id                 = aws_apigatewayv2_api.this.id
  integration_type       = "AWS_PROXY"
  integration_method     = "POST"
  integration_uri        = each.value.alias_invoke_arn
  payload_format_version = "2.0"
  timeout_milliseconds   = 30000
}

# The functions check API keys: an authorizer in front would ask DynamoDB a second time.
resource "aws_apigatewayv2_route" "this" {
  #checkov:skip=CKV_AWS_309: the functions check the API key of every request
  for_each = var.routes

  api_id             = aws_apigatewayv2_api.this.id
  route_key          = each.key
  authorization_type = "NONE"
  target             = "integrations/${aws_apigatewayv2_integration.this[each.value].id}"
}

resource "aws_apigatewayv2_stage" "this" {
  api_id      = aws_apigatewayv2_api.this.id
  name        = "$default"
  auto_deploy = true

  default_route_settings {
    throttling_rate_limit    = var.throttle.rate
    throttling_burst_limit   = var.throttle.burst
    detailed_metrics_enabled = true
  }

  # Without the query: a publishable key may stand there.
  access_log_settings {
    destination_arn = aws_cloudwatch_log_group.access.arn
    format = jsonencode({
      request_id     = "$context.requestId"
      time           = "$context.requestTime"
      route          = "$context.routeKey"
      status         = "$context.status"
      source_ip      = "$context.identity.sourceIp"
      latency_ms     = "$context.responseLatency"
      integration_ms = "$context.integrationLatency"
      error          = "$context.error.message"
    })
  }
}

resource "aws_cloudwatch_log_group" "access" {
  #checkov:skip=CKV_AWS_338: how long is a choice of each environment
  #checkov:skip=CKV_AWS_158: CloudWatch encrypts it with a key of its own; it holds no payloads
  name              = "/forebay/${var.name}/access"
  retention_in_days = var.log_days
}

resource "aws_lambda_permission" "this" {
  for_each = var.functions

  statement_id  = "front-door"
  action        = "lambda:InvokeFunction"
  function_name = each.value.function_name
  qualifier     = each.value.alias
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.this.execution_arn}/*/*"
}

resource "aws_apigatewayv2_domain_name" "this" {
  count       = var.domain == null ? 0 : 1
  domain_name = var.domain.name

  domain_name_configuration {
    certificate_arn = var.domain.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }
}

resource "aws_apigatewayv2_api_mapping" "this" {
  count       = var.domain == null ? 0 : 1
  api_id      = aws_apigatewayv2_api.this.id
  domain_name = aws_apigatewayv2_domain_name.this[0].domain_name
  stage       = aws_apigatewayv2_stage.this.name
}
