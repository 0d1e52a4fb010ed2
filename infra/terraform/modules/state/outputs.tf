output "access_table" {
  value = { name = aws_dynamodb_table.access.name, arn = aws_dynamodb_table.access.arn }
}

output "dedup_table" {
  description = "Null if claims are kept in Postgres."
  value       = one([for table in aws_dynamodb_table.dedup : { name = table.name, arn = table.arn }])
}
