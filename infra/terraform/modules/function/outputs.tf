output "name" {
  value = aws_lambda_function.this.function_name
}

output "version" {
  value = aws_lambda_function.this.version
}

output "qualified_arn" {
  description = "ARN of the version that was published last."
  value       = aws_lambda_function.this.qualified_arn
}

output "alias" {
  value = aws_lambda_alias.live.name
}

output "live_version" {
  description = "The version that the alias names."
  value       = aws_lambda_alias.live.function_version
}

output "alias_arn" {
  value = aws_lambda_alias.live.arn
}

output "alias_invoke_arn" {
  value = aws_lambda_alias.live.invoke_arn
}

output "log_group" {
  value = aws_cloudwatch_log_group.this.name
}
