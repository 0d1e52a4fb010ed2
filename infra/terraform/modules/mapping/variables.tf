variable "function_arn" {
  description = "ARN of the function's alias."
  type        = string
}

variable "topic" {
  type = string
}

variable "consumer_group" {
  type = string
}

variable "cluster_arn" {
  description = "The MSK cluster; null for another Kafka."
  type        = string
}

variable "external" {
  description = "Another Kafka; null for MSK."
  type = object({
    brokers           = list(string)
    sasl_mechanism    = string
    secret_arn        = string
    subnet_ids        = list(string)
    security_group_id = string
  })
}

variable "batch_size" {
  type = number
}

variable "window_sec" {
  description = "How long a batch may wait for more records, in seconds."
  type        = number
}

variable "pollers" {
  description = "Least and most pollers in provisioned mode; null means on-demand."
  type = object({
    minimum = number
    maximum = number
  })
}

variable "reports_failed_records" {
  description = "Whether the function answers with the records that failed. Must agree with its BATCH_RESPONSE."
  type        = bool
}

variable "on_failure_bucket_arn" {
  description = "Bucket of batches that were given up; null means that none is ever given up."
  type        = string
}
