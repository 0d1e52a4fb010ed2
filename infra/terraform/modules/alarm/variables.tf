variable "name" {
  type = string
}

variable "description" {
  description = "What it means, as the function's README says."
  type        = string
}

variable "topic_arn" {
  description = "Topic of the messages."
  type        = string
}

variable "log" {
  description = "Lines of a log that count: a filter pattern, and a field whose value is taken instead of 1."
  type = object({
    group   = string
    pattern = string
    value   = optional(string, "1")
  })
  default = null
}

variable "metric" {
  description = "A metric of AWS, instead."
  type = object({
    namespace  = string
    name       = string
    dimensions = map(string)
  })
  default = null
}

variable "only_if_growing" {
  description = "Counts only what the metric grew by."
  type        = bool
}

variable "statistic" {
  description = "Sum, Minimum, Maximum, or a percentile such as p99."
  type        = string
}

variable "comparison" {
  type = string
}

variable "threshold" {
  type = number
}

variable "period_sec" {
  type = number
}

variable "periods" {
  description = "How many periods are looked at."
  type        = number
}

variable "breaching_periods" {
  description = "How many of them must breach."
  type        = number
}

variable "missing_data" {
  type = string
}
