output "database" {
  value = aws_glue_catalog_database.this.name
}

output "workgroup" {
  value = aws_athena_workgroup.this.name
}

output "views" {
  description = "The saved queries that make the views, in the order in which they must run."
  value       = [for view in local.defined.views : aws_athena_named_query.view[view.name].id]
}
