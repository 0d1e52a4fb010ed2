variable "name" {
  type = string
}

variable "expression" {
  description = "rate(…) or cron(…), in UTC."
  type        = string
}

variable "function_arn" {
  description = "ARN of the function's alias."
  type        = string
}

variable "input" {
  description = "The request."
  type        = string
}
