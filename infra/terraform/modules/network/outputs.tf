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

output "made_endpoints" {
  description = "Services that got an endpoint here."
  value       = toset(concat(keys(aws_vpc_endpoint.gateway), keys(aws_vpc_endpoint.interface)))
}

output "private_link_names" {
  description = "Names that lead to the endpoint of a vendor's Kafka."
  value       = toset([for record in aws_route53_record.private_link : record.name])
}
