# The functions in the VPC. Nothing connects to them. Kafka's and Postgres's rules are in the modules of these.

resource "aws_security_group" "functions" {
  #checkov:skip=CKV2_AWS_5: attached in another module, which checkov does not follow
  name        = "${var.name}-functions"
  description = "Functions in the VPC"
  vpc_id      = local.vpc_id
  tags        = { Name = "${var.name}-functions" }
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  security_group_id            = aws_security_group.functions.id
  description                  = "AWS services with an interface endpoint"
  referenced_security_group_id = aws_security_group.endpoints.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

# Endpoints that exist have other security groups.
resource "aws_vpc_security_group_egress_rule" "existing_endpoints" {
  count = length(setintersection(var.interface_endpoints, local.has_endpoints)) > 0 ? 1 : 0

  security_group_id = aws_security_group.functions.id
  description       = "AWS services with an interface endpoint that exists"
  cidr_ipv4         = local.cidr
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

data "aws_prefix_list" "gateway" {
  for_each = local.gateways
  name     = "com.amazonaws.${var.region}.${each.key}"
}

resource "aws_vpc_security_group_egress_rule" "gateway" {
  for_each = local.gateways

  security_group_id = aws_security_group.functions.id
  description       = "The gateway endpoint of ${each.key}"
  prefix_list_id    = data.aws_prefix_list.gateway[each.key].id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "collector" {
  count = var.collector_port == null ? 0 : 1

  security_group_id = aws_security_group.functions.id
  description       = "The collector of traces"
  cidr_ipv4         = local.cidr
  ip_protocol       = "tcp"
  from_port         = var.collector_port
  to_port           = var.collector_port
}

resource "aws_vpc_security_group_egress_rule" "internet" {
  count = var.has_way_out ? 1 : 0

  security_group_id = aws_security_group.functions.id
  description       = "HTTPS to what lies outside"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
