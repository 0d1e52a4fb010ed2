variable "name" {
  type = string
}

variable "description" {
  description = "What it means, and what to do."
  type        = string
}

variable "topic_arn" {
  description = "Topic of the messages."
  type        = string
}

variable "is_part" {
  description = "A composite alarm watches it, and tells."
  type        = bool
  default     = false
}

variable "log" {
  description = "Lines of a log that count: a filter pattern, and a field whose value is taken instead of 1. The metric is called like the alarm."
  type = object({
    namespace = string
    group     = string
    pattern   = string
    value     = string
  })
  default = null
}

variable "metrics" {
  description = "Metrics instead, by the names that the expression has for them."
  type = map(object({
    namespace  = string
    name       = string
    dimensions = map(string)
    statistic  = string
  }))
  default = {}
}

variable "expression" {
  description = "What the alarm watches. Null: the only metric."
  type        = string
  default     = null
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
