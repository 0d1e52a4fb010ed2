output "ingest_url" {
  description = "Where events are sent."
  value       = "${module.front_door.url}/events"
}

output "query_url" {
  description = "Where the history of an event is asked for."
  value       = "${module.front_door.url}/events/ID"
}

output "domain_target" {
  description = "What the name of front_door.domain must point to."
  value       = module.front_door.domain_target
}

output "make_a_key" {
  description = "Command that makes a first API key; it is shown only once."
  value       = <<-TEXT
    aws lambda invoke --region ${local.region} --function-name ${module.maintainer.name} --qualifier ${module.maintainer.alias} \
      --cli-binary-format raw-in-base64-out --payload '{"action":"create-key","by":"'"$USER"'","tenant":"acme","name":"first","kind":"server","scopes":["write","read"]}' /dev/stdout
  TEXT
}

output "send_an_event" {
  description = "Command that sends a first event."
  value       = <<-TEXT
    curl -s ${module.front_door.url}/events -H "x-api-key: $KEY" -H 'content-type: application/json' \
      -d '{"type":"page_view","id":"first","path":"/","user_id":"u1"}'
  TEXT
}

output "ask_for_the_event" {
  description = "Command that says what happened to it."
  value       = "curl -s '${module.front_door.url}/events/first?wait_ms=5000' -H \"x-api-key: $KEY\""
}

output "functions" {
  description = "Name, newest version and alias of each function, and the alarm of that version if it goes live step by step."
  value = { for name, function in local.all_functions : name => {
    name      = function.name
    version   = function.version
    alias_arn = function.alias_arn
    alarm     = try(module.new_version_alarm[name].name, null)
  } }
}

output "mappings" {
  description = "UUIDs of the event source mappings, by consumer group."
  value       = { for name, mapping in module.mapping : name => mapping.uuid }
}

output "archive_bucket" {
  value = module.archive.name
}

output "archive_tables" {
  description = "Database and workgroup of the archive's tables, and the saved queries that make its views; null without lake."
  value       = one([for lake in module.lake : { database = lake.database, workgroup = lake.workgroup, views = lake.views }])
}

output "archive_rules" {
  description = "How long objects are kept; a copy in another region has the same rules."
  value       = { retention_days = var.archive.retention_days, query_result_days = try(var.lake.result_days, null), noncurrent_days = var.archive.noncurrent_days, force_destroy = var.archive.force_destroy }
}

output "database_secret_arn" {
  description = "The secret of the database's owner, which RDS rotates."
  value       = module.database.secret_arn
}

output "alarms_topic_arn" {
  value = aws_sns_topic.alarms.arn
}

output "maintained" {
  description = "What the maintainer did at the last deployment."
  value       = aws_lambda_invocation.maintain.result
}
