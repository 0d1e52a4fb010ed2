locals {
  uses_iam = var.database.login == "iam"
  # With a proxy, it is the secret's user who logs in with a token.
  iam_user    = var.database.proxy ? local.owner : var.iam_user
  resource_id = var.database.proxy ? element(split(":", aws_db_proxy.this[0].arn), 6) : aws_db_instance.this.resource_id

  server = merge(
    {
      DB_HOST   = var.database.proxy ? aws_db_proxy.this[0].endpoint : aws_db_instance.this.address
      DB_NAME   = local.database_name
      DB_POOLER = var.database.proxy ? "transaction" : "none"
    },
    # The proxy's certificate is from a public authority, the server's from one of RDS's own: `make package` puts that one
    # beside the program.
    var.database.proxy ? {} : { DB_CA_FILE = "/var/task/rds-ca.pem" },
  )
  by_secret = merge(local.server, { DB_PASSWORD_SECRET_ARN = local.secret_arn })
  by_iam    = merge(local.server, { DB_AUTH = "iam", DB_USER = local.iam_user })

  dbuser = "arn:aws:rds-db:${var.region}:${var.account_id}:dbuser"
}

output "environment" {
  description = "The settings of functions that connect to Postgres."
  value       = local.uses_iam ? local.by_iam : local.by_secret
}

output "owner_environment" {
  description = "The same for the maintainer, which owns the tables."
  value       = local.uses_iam && var.database.proxy ? local.by_iam : local.by_secret
}

output "owner_uses_secret" {
  value = !(local.uses_iam && var.database.proxy)
}

output "replica_environment" {
  description = "What whoever reads the replica needs besides; nothing without one."
  value       = { for replica in aws_db_instance.replica : "DB_READ_HOST" => replica.address }
}

output "secret_arn" {
  description = "The managed secret of the owner."
  value       = local.secret_arn
}

output "connect_arn" {
  description = "What rds-db:connect must be allowed on."
  value       = "${local.dbuser}:${local.resource_id}/${local.iam_user}"
}

output "replica_connect_arns" {
  description = "The same for the replica; none without one."
  value       = [for replica in aws_db_instance.replica : "${local.dbuser}:${replica.resource_id}/${local.iam_user}"]
}

output "instance_identifier" {
  value = aws_db_instance.this.identifier
}

output "replica_identifiers" {
  description = "Of the replica; none without one."
  value       = aws_db_instance.replica[*].identifier
}

output "ready" {
  description = "Known when functions can connect."
  value       = var.database.proxy ? aws_db_proxy_target.this[0].id : aws_db_instance.this.id
}
