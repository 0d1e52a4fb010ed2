output "ingest_url" {
  description = "Where events are sent."
  value       = module.pipeline.ingest_url
}

output "make_a_key" {
  description = "Command that makes a first API key; it is shown only once."
  value       = module.pipeline.make_a_key
}

output "send_an_event" {
  description = "Command that sends a first event, with the key in KEY."
  value       = module.pipeline.send_an_event
}

output "ask_for_the_event" {
  description = "Command that says what happened to it."
  value       = module.pipeline.ask_for_the_event
}

output "pipeline" {
  description = "Names that operators need."
  value = {
    functions           = module.pipeline.functions
    mappings            = module.pipeline.mappings
    archive_bucket      = module.pipeline.archive_bucket
    archive_tables      = module.pipeline.archive_tables
    alarms_topic_arn    = module.pipeline.alarms_topic_arn
    database_secret_arn = module.pipeline.database_secret_arn
    maintained          = module.pipeline.maintained
  }
}
