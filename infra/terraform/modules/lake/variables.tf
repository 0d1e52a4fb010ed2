variable "name" {
  description = "Name of the workgroup, and of the database with underscores."
  type        = string
}

variable "bucket" {
  description = "The bucket of the archive."
  type        = string
}

variable "days" {
  description = "How many days back the tables go, by the first part of a key."
  type        = map(number)
}

variable "kms_key_arn" {
  description = "Key of the results; null means S3's own keys."
  type        = string
}

variable "scan_limit_gb" {
  description = "What one query may scan, compressed, in GiB; Athena cancels one that scans more."
  type        = number
}
