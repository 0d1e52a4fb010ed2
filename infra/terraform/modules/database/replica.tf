# A copy that only `query` reads. It has the storage, the owner and the users of the primary, and no password or backups of its own.

resource "aws_db_instance" "replica" {
  #checkov:skip=CKV_AWS_118: the dashboard has what is looked at; enhanced monitoring costs by the instance
  #checkov:skip=CKV_AWS_157: while it is gone, read_replica = false leads queries to the primary
  #checkov:skip=CKV_AWS_293: it has nothing that the primary has not, and read_replica = false must remove it
  #checkov:skip=CKV_AWS_354: encrypted with the key of RDS
  count = var.database.read_replica ? 1 : 0

  identifier = "${var.name}-replica"
  # By its name, so that RDS puts the replica into the same subnets.
  replicate_source_db = aws_db_instance.this.identifier
  instance_class      = var.database.instance_class

  storage_type          = "gp3"
  max_allocated_storage = var.database.max_storage_gb
  storage_encrypted     = true

  iam_database_authentication_enabled = true

  vpc_security_group_ids = [aws_security_group.this.id]
  publicly_accessible    = false
  port                   = local.port
  parameter_group_name   = aws_db_parameter_group.this.name
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  copy_tags_to_snapshot      = true
  auto_minor_version_upgrade = true
  # RDS makes no last snapshot of a replica.
  skip_final_snapshot = true

  performance_insights_enabled    = true
  enabled_cloudwatch_logs_exports = ["postgresql"]

  lifecycle {
    # Otherwise Terraform removes it before the alias of `query` has moved to a version that does not read it.
    create_before_destroy = true
  }

  depends_on = [aws_cloudwatch_log_group.replica]
}

resource "aws_cloudwatch_log_group" "replica" {
  #checkov:skip=CKV_AWS_158: CloudWatch encrypts it with a key of its own; it holds no payloads
  count = var.database.read_replica ? 1 : 0

  name              = "/aws/rds/instance/${var.name}-replica/postgresql"
  retention_in_days = var.database.log_days
}
