output "vpc_id" {
  value = local.vpc_id
}

output "subnet_ids" {
  description = "Private subnets."
  value       = local.subnet_ids
}

output "functions_security_group_id" {
  value = aws_security_group.functions.id
}

output "endpoints_security_group_id" {
  value = aws_security_group.endpoints.id
}
