locals {
  zone_count = 3
  makes_vpc  = var.existing == null
  zones      = local.makes_vpc ? slice(data.aws_availability_zones.available[0].names, 0, local.zone_count) : []
  nat_count  = local.makes_vpc ? { none = 0, single = 1, per_zone = local.zone_count }[var.nat] : 0

  vpc_id          = local.makes_vpc ? aws_vpc.this[0].id : var.existing.vpc_id
  cidr            = local.makes_vpc ? var.cidr : var.existing.cidr
  has_endpoints   = local.makes_vpc ? toset([]) : var.existing.endpoints
  subnet_ids      = local.makes_vpc ? aws_subnet.private[*].id : var.existing.subnet_ids
  route_table_ids = local.makes_vpc ? aws_route_table.private[*].id : var.existing.route_table_ids
}

data "aws_availability_zones" "available" {
  #checkov:skip=CKV_AWS_394: subnets are made by position, and the number of zones is fixed
  count = local.makes_vpc ? 1 : 0
  state = "available"

  # Local zones have no Lambda, MSK or RDS.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

resource "aws_vpc" "this" {
  count = local.makes_vpc ? 1 : 0

  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

# Without rules: nothing can use it by mistake.
resource "aws_default_security_group" "this" {
  count  = local.makes_vpc ? 1 : 0
  vpc_id = aws_vpc.this[0].id
}

resource "aws_subnet" "private" {
  count = local.makes_vpc ? local.zone_count : 0

  vpc_id            = aws_vpc.this[0].id
  availability_zone = local.zones[count.index]
  cidr_block        = cidrsubnet(var.cidr, 4, count.index)
  tags              = { Name = "${var.name}-private-${local.zones[count.index]}" }
}

resource "aws_route_table" "private" {
  count  = local.makes_vpc ? local.zone_count : 0
  vpc_id = aws_vpc.this[0].id
  tags   = { Name = "${var.name}-private-${local.zones[count.index]}" }
}

resource "aws_route_table_association" "private" {
  count          = local.makes_vpc ? local.zone_count : 0
  subnet_id      = aws_subnet.private[count.index].id
  route_table_id = aws_route_table.private[count.index].id
}
