variable "name" {
  description = "Name of the bucket; unique in all of AWS."
  type        = string
}

variable "retention_days" {
  description = "After how many days objects expire, by prefix."
  type = object({
    raw        = number
    outcomes   = number
    quarantine = number
    parked     = number
  })
}

variable "query_result_days" {
  description = "After how many days results of queries expire, which are under queries/; null means that there are none."
  type        = number
}

variable "noncurrent_days" {
  description = "How many days an overwritten or deleted object can be restored."
  type        = number
}

variable "kms_key_arn" {
  description = "Key of the objects; null means S3's own keys."
  type        = string
}

variable "force_destroy" {
  description = "Whether destroying deletes the objects, too."
  type        = bool
}

variable "replica_arn" {
  description = "Bucket, in another region, that gets a copy of every new object; null means none."
  type        = string
}
