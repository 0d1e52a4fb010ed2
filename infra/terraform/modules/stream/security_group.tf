resource "aws_security_group" "brokers" {
  count = local.makes_cluster ? 1 : 0

  name        = "${var.name}-kafka"
  description = "Kafka brokers"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-kafka" }
}

resource "aws_vpc_security_group_ingress_rule" "functions" {
  count = local.is_msk ? 1 : 0

  security_group_id            = local.security_group_id
  description                  = "Functions"
  referenced_security_group_id = var.functions_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.iam_port
  to_port                      = local.iam_port
}

# The pollers of a mapping have this security group, too.
resource "aws_vpc_security_group_ingress_rule" "pollers" {
  count = local.makes_cluster ? 1 : 0

  security_group_id            = local.security_group_id
  description                  = "Pollers of event source mappings, and other brokers"
  referenced_security_group_id = local.security_group_id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "pollers_to_brokers" {
  count = local.makes_cluster ? 1 : 0

  security_group_id            = local.security_group_id
  description                  = "Brokers"
  referenced_security_group_id = local.security_group_id
  ip_protocol                  = "-1"
}

resource "aws_vpc_security_group_egress_rule" "pollers_to_endpoints" {
  count = local.makes_cluster ? 1 : 0

  security_group_id            = local.security_group_id
  description                  = "Pollers to Lambda, STS and Secrets Manager"
  referenced_security_group_id = var.endpoints_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "functions_to_msk" {
  count = local.is_msk ? 1 : 0

  security_group_id            = var.functions_security_group_id
  description                  = "Kafka brokers"
  referenced_security_group_id = local.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.iam_port
  to_port                      = local.iam_port
}

resource "aws_vpc_security_group_egress_rule" "functions_to_external" {
  for_each = { for port in local.external_ports : tostring(port) => port }

  security_group_id = var.functions_security_group_id
  description       = "Kafka brokers outside"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
}
