# The same tables as shared/dynamodb/src/tables.rs makes for local use.

resource "aws_dynamodb_table" "access" {
  #checkov:skip=CKV_AWS_119: encrypted with the key that AWS manages for DynamoDB in this account
  name                        = "${var.name}-access"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled = true
  }
}

resource "aws_dynamodb_table" "dedup" {
  #checkov:skip=CKV_AWS_119: encrypted with the key that AWS manages for DynamoDB in this account
  count = var.with_dedup ? 1 : 0

  name                        = "${var.name}-dedup"
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "pk"
    type = "S"
  }

  ttl {
    attribute_name = "expires_at"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled = true
  }
}
