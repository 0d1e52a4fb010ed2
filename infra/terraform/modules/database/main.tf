locals {
  port          = 5432
  database_name = "forebay"
  owner         = "forebay_owner"
  major_version = split(".", var.database.engine_version)[0]
  secret_arn    = aws_db_instance.this.master_user_secret[0].secret_arn
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres${local.major_version}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_118: the dashboard has what is looked at; enhanced monitoring costs by the instance
  #checkov:skip=CKV_AWS_354: encrypted with the key of RDS
  identifier     = var.name
  engine         = "postgres"
  engine_version = var.database.engine_version
  instance_class = var.database.instance_class

  storage_type          = "gp3"
  allocated_storage     = var.database.storage_gb
  max_allocated_storage = var.database.max_storage_gb
  storage_encrypted     = true

  db_name  = local.database_name
  username = local.owner
  # RDS makes the password, keeps it in Secrets Manager and replaces it every seven days. Terraform never sees it.
  manage_master_user_password         = true
  iam_database_authentication_enabled = true

  multi_az               = var.database.multi_az
  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.this.id]
  publicly_accessible    = false
  port                   = local.port
  parameter_group_name   = aws_db_parameter_group.this.name
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  backup_retention_period    = var.database.backup_days
  copy_tags_to_snapshot      = true
  auto_minor_version_upgrade = true
  deletion_protection        = var.database.deletion_protection
  skip_final_snapshot        = !var.database.deletion_protection
  final_snapshot_identifier  = "${var.name}-final"

  performance_insights_enabled    = true
  enabled_cloudwatch_logs_exports = ["postgresql"]

  depends_on = [aws_cloudwatch_log_group.this]
}

# Made here, because a group that RDS makes keeps its lines for ever.
resource "aws_cloudwatch_log_group" "this" {
  #checkov:skip=CKV_AWS_158: CloudWatch encrypts it with a key of its own; it holds no payloads
  name              = "/aws/rds/instance/${var.name}/postgresql"
  retention_in_days = var.database.log_days
}

resource "aws_security_group" "this" {
  name        = "${var.name}-postgres"
  description = "Postgres"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-postgres" }
}

resource "aws_vpc_security_group_ingress_rule" "this" {
  security_group_id            = aws_security_group.this.id
  description                  = var.database.proxy ? "The proxy" : "Functions"
  referenced_security_group_id = var.database.proxy ? aws_security_group.proxy[0].id : var.functions_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}

resource "aws_vpc_security_group_egress_rule" "functions" {
  security_group_id            = var.functions_security_group_id
  description                  = "Postgres"
  referenced_security_group_id = var.database.proxy ? aws_security_group.proxy[0].id : aws_security_group.this.id
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
}
