# Values that other resources check or take apart. The others are random strings.

mock_data "aws_caller_identity" {
  defaults = { account_id = "123456789012" }
}

mock_data "aws_region" {
  defaults = { name = "eu-west-1" }
}

mock_data "aws_availability_zones" {
  defaults = { names = ["eu-west-1a", "eu-west-1b", "eu-west-1c"] }
}

mock_resource "aws_iam_role" {
  defaults = { arn = "arn:aws:iam::123456789012:role/mocked" }
}

mock_resource "aws_cloudwatch_log_group" {
  defaults = { arn = "arn:aws:logs:eu-west-1:123456789012:log-group:mocked" }
}

mock_resource "aws_msk_cluster" {
  defaults = { arn = "arn:aws:kafka:eu-west-1:123456789012:cluster/mocked/0f1e2d3c-0000-4000-8000-000000000000-1" }
}

mock_resource "aws_msk_configuration" {
  defaults = { arn = "arn:aws:kafka:eu-west-1:123456789012:configuration/mocked/0f1e2d3c-1", latest_revision = 1 }
}

mock_resource "aws_db_instance" {
  defaults = {
    address            = "mocked.eu-west-1.rds.example"
    resource_id        = "db-MOCKED"
    master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-mocked-AbCdEf", kms_key_id = "", secret_status = "active" }]
  }
}

mock_resource "aws_db_proxy" {
  defaults = {
    arn      = "arn:aws:rds:eu-west-1:123456789012:db-proxy:prx-mocked"
    endpoint = "mocked.proxy.eu-west-1.rds.example"
  }
}

mock_resource "aws_dynamodb_table" {
  defaults = { arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/mocked" }
}

mock_resource "aws_s3_bucket" {
  defaults = { arn = "arn:aws:s3:::mocked" }
}

mock_resource "aws_lambda_function" {
  defaults = { arn = "arn:aws:lambda:eu-west-1:123456789012:function:mocked", version = "1" }
}

mock_resource "aws_lambda_alias" {
  defaults = {
    arn        = "arn:aws:lambda:eu-west-1:123456789012:function:mocked:live"
    invoke_arn = "arn:aws:apigateway:eu-west-1:lambda:path/2015-03-31/functions/arn:aws:lambda:eu-west-1:123456789012:function:mocked:live/invocations"
  }
}

mock_resource "aws_apigatewayv2_api" {
  defaults = {
    api_endpoint  = "https://mocked.execute-api.eu-west-1.example"
    execution_arn = "arn:aws:execute-api:eu-west-1:123456789012:mocked"
  }
}

mock_resource "aws_apigatewayv2_stage" {
  defaults = { arn = "arn:aws:apigateway:eu-west-1::/apis/mocked/stages/$default" }
}

mock_resource "aws_sns_topic" {
  defaults = { arn = "arn:aws:sns:eu-west-1:123456789012:mocked" }
}

mock_resource "aws_kms_key" {
  defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/mocked" }
}

mock_resource "aws_vpc_endpoint" {
  defaults = { dns_entry = [{ dns_name = "vpce-mocked.example", hosted_zone_id = "ZMOCKED" }] }
}

mock_resource "aws_eip" {
  defaults = { id = "eipalloc-0123456789abcdef0" }
}
