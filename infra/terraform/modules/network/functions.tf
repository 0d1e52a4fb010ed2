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

resource "aws_vpc_security_group_egress_rule" "gateway" {
  for_each = aws_vpc_endpoint.gateway

  security_group_id = aws_security_group.functions.id
  description       = "The gateway endpoint of ${each.key}"
  prefix_list_id    = each.value.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "internet" {
  count = var.nat == "none" ? 0 : 1

  security_group_id = aws_security_group.functions.id
  description       = "HTTPS to what lies outside"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
