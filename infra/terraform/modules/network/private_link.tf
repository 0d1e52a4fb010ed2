# A Kafka of a vendor, reached without the Internet. The brokers' names lead to the endpoint inside this VPC only.

locals {
  private_link = var.private_link == null ? {} : { this = var.private_link }
}

resource "aws_vpc_endpoint" "private_link" {
  for_each = local.private_link

  vpc_id              = local.vpc_id
  service_name        = each.value.service_name
  vpc_endpoint_type   = "Interface"
  private_dns_enabled = false
  subnet_ids          = local.subnet_ids
  security_group_ids  = [aws_security_group.private_link[each.key].id]
  tags                = { Name = "${var.name}-kafka" }
}

resource "aws_security_group" "private_link" {
  for_each = local.private_link

  name        = "${var.name}-private-link"
  description = "Endpoint of the Kafka of a vendor"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.name}-private-link" }
}

# The pollers of a mapping have the functions' security group, too.
resource "aws_vpc_security_group_ingress_rule" "private_link" {
  for_each = var.private_link == null ? {} : { for port in var.private_link_ports : tostring(port) => port }

  security_group_id            = aws_security_group.private_link["this"].id
  description                  = "Functions and pollers"
  referenced_security_group_id = aws_security_group.functions.id
  ip_protocol                  = "tcp"
  from_port                    = each.value
  to_port                      = each.value
}

resource "aws_route53_zone" "private_link" {
  #checkov:skip=CKV2_AWS_38: a private zone cannot be signed
  #checkov:skip=CKV2_AWS_39: queries of a private zone are not logged, because they come from these functions only
  for_each = local.private_link

  name = each.value.domain

  vpc {
    vpc_id = local.vpc_id
  }
}

resource "aws_route53_record" "private_link" {
  for_each = var.private_link == null ? toset([]) : toset([var.private_link.domain, "*.${var.private_link.domain}"])

  zone_id = aws_route53_zone.private_link["this"].zone_id
  name    = each.key
  type    = "A"

  alias {
    name                   = aws_vpc_endpoint.private_link["this"].dns_entry[0].dns_name
    zone_id                = aws_vpc_endpoint.private_link["this"].dns_entry[0].hosted_zone_id
    evaluate_target_health = true
  }
}
