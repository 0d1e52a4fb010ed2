variable "region" {
  description = "The region of everything; that of the Kafka, or its bytes cost more."
  type        = string
}

variable "packages_dir" {
  description = "Folder of the zips that `make package` made."
  type        = string
  default     = "../../../../target/package"
}

variable "alarm_email" {
  description = "Where alarms are sent; AWS asks this address to confirm."
  type        = string
  default     = null
}

variable "live_versions" {
  description = "Versions at which aliases stay, by function, until infra/ci/canary.py moves them; set by infra/ci/terraform.sh deploy."
  type        = map(string)
  default     = {}
}

variable "kafka" {
  description = "The Kafka that you have: TLS and a login. The secret is a JSON object with username and password."
  type = object({
    brokers        = list(string)
    sasl_mechanism = optional(string, "SCRAM-SHA-512")
    sasl_username  = string
    secret_arn     = string
  })
}
