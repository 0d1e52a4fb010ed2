# RDS Proxy logs in at the server with the managed secret. Clients log in at the proxy with a token of IAM, or with the same
# secret. A token from end to end needs version 6 of the provider.

resource "aws_db_proxy" "this" {
  count = var.database.proxy ? 1 : 0

  name                   = var.name
  engine_family          = "POSTGRESQL"
  require_tls            = true
  role_arn               = aws_iam_role.proxy[0].arn
  vpc_subnet_ids         = var.subnet_ids
  vpc_security_group_ids = [aws_security_group.proxy[0].id]

  auth {
    auth_scheme = "SECRETS"
    secret_arn  = local.secret_arn
    iam_auth    = var.database.login == "iam" ? "REQUIRED" : "DISABLED"
  }
}

resource "aws_db_proxy_default_target_group" "this" {
  count         = var.database.proxy ? 1 : 0
  db_proxy_name = aws_db_proxy.this[0].name

  connection_pool_config {
    max_connections_percent   = 90
    connection_borrow_timeout = 5
  }
}

resource "aws_db_proxy_target" "this" {
  count                  = var.database.proxy ? 1 : 0
  db_proxy_name          = aws_db_proxy.this[0].name
  target_group_name      = aws_db_proxy_default_target_group.this[0].name
  db_instance_identifier = aws_db_instance.this.identifier
}

resource "aws_security_group" "proxy" {
  #checkov:skip=CKV2_AWS_5: attached in another module, which checkov does not follow
  count = var.database.proxy ? 1 : 0

  name        = "${var.name}-postgres-proxy"
  description = "RDS Proxy"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-postgres-proxy" }
}

resource "aws_vpc_security_group_ingress_rule" "proxy" {
  count = var.database.proxy ? 1 : 0

  security_group_id            = aws_security_group.proxy[0].id
  description                  = "Functions"
  referenced_security_group_id = var.functions_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "proxy" {
  count = var.database.proxy ? 1 : 0

  security_group_id            = aws_security_group.proxy[0].id
  description                  = "Postgres"
  referenced_security_group_id = aws_security_group.this.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_iam_role" "proxy" {
  count = var.database.proxy ? 1 : 0
  name  = "${var.name}-postgres-proxy"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "rds.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "proxy" {
  count = var.database.proxy ? 1 : 0
  name  = "read-the-secret"
  role  = aws_iam_role.proxy[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["secretsmanager:GetSecretValue"]
      Resource = [local.secret_arn]
    }]
  })
}
