variable "region" {
  description = "The region of everything."
  type        = string
}

variable "packages_dir" {
  description = "Folder of the zips that `make package` made."
  type        = string
  default     = "../../../target/package"
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

variable "archive_replica_region" {
  description = "Another region, for a copy of the archive; null means none."
  type        = string
  default     = null
}
