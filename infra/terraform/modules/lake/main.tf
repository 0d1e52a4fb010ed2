# The archive as tables of Athena. Which there are, and their views, is in infra/lake, which DuckDB reads, too.

locals {
  folder  = "${path.module}/../../../lake"
  defined = jsondecode(file("${local.folder}/tables.json"))

  # The parts of an object's key that are columns.
  keys = { for name, prefix in local.defined.tables : name => flatten(regexall("\\$\\{(\\w+)\\}", prefix)) }

  views = { for view in local.defined.views : view.name => templatefile("${local.folder}/views/${view.file}", {
    lines = try(view.lines, "")
    keys  = join("", [for key in try(local.keys[view.lines], []) : "${key}, "])
  }) }

  projections = {
    # What is older has expired. One day ahead, because a producer's clock may be.
    dt = { for name in keys(local.defined.tables) : name => {
      type            = "date"
      format          = "yyyy-MM-dd"
      range           = "NOW-${var.days[split("/", local.defined.tables[name])[0]]}DAYS,NOW+1DAYS"
      interval        = "1"
      "interval.unit" = "DAYS"
    } }
    # Not integers: the column is text, and what is compared with it, too.
    hour   = { for name in keys(local.defined.tables) : name => { type = "enum", values = join(",", formatlist("%02d", range(24))) } }
    status = { for name in keys(local.defined.tables) : name => { type = "enum", values = join(",", local.defined.statuses) } }
  }
}

resource "aws_glue_catalog_database" "this" {
  name = replace(var.name, "-", "_")
}

# The whole line is one column: a reader of JSON merges or refuses keys that differ in case, and a payload may have any.
resource "aws_glue_catalog_table" "lines" {
  for_each = local.defined.tables

  database_name = aws_glue_catalog_database.this.name
  name          = each.key
  table_type    = "EXTERNAL_TABLE"

  parameters = merge(
    { EXTERNAL = "TRUE" },
    length(local.keys[each.key]) == 0 ? {} : {
      "projection.enabled"        = "true"
      "storage.location.template" = "s3://${var.bucket}/${each.value}"
    },
    merge([for key in local.keys[each.key] : {
      for property, value in local.projections[key][each.key] : "projection.${key}.${property}" => value
    }]...),
  )

  storage_descriptor {
    location      = "s3://${var.bucket}/${split("$", each.value)[0]}"
    input_format  = "org.apache.hadoop.mapred.TextInputFormat"
    output_format = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat"

    ser_de_info {
      serialization_library = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
      # Splits columns at the character 1, which JSON has none of.
      parameters = { "serialization.format" = "1" }
    }

    columns {
      name = "line"
      type = "string"
    }
  }

  dynamic "partition_keys" {
    for_each = local.keys[each.key]

    content {
      name = partition_keys.value
      type = "string"
    }
  }
}

resource "aws_athena_workgroup" "this" {
  name        = var.name
  description = "Questions to the archive"
  # With its saved queries and its history.
  force_destroy = true

  configuration {
    # Else a user could set another limit, and another place for results.
    enforce_workgroup_configuration    = true
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.scan_limit_gb * 1024 * 1024 * 1024

    result_configuration {
      output_location = "s3://${var.bucket}/queries/"

      encryption_configuration {
        encryption_option = var.kms_key_arn == null ? "SSE_S3" : "SSE_KMS"
        kms_key_arn       = var.kms_key_arn
      }
    }
  }
}

# Athena makes a view from its text, and knows the types of its columns then. Glue alone would need them from us, in a form of
# Athena's own that AWS does not document.
resource "aws_athena_named_query" "view" {
  for_each = local.views

  name        = "view ${each.key}"
  description = "Makes the view, or makes it anew"
  workgroup   = aws_athena_workgroup.this.id
  database    = aws_glue_catalog_database.this.name
  query       = "CREATE OR REPLACE VIEW ${each.key} AS\n${each.value}"
}
