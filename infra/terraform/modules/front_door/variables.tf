variable "name" {
  type = string
}

variable "routes" {
  description = "Function of each route, as METHOD /path."
  type        = map(string)
}

variable "functions" {
  description = "The functions by name, with the alias that is invoked."
  type = map(object({
    function_name    = string
    alias            = string
    alias_invoke_arn = string
  }))
}

variable "throttle" {
  description = "Requests per second for all clients together, and how many may come at once."
  type = object({
    rate  = number
    burst = number
  })
}

variable "log_days" {
  description = "How long the access log is kept, in days."
  type        = number
}

variable "domain" {
  description = "A name of yours, and the ARN of its certificate in ACM in this region."
  type = object({
    name            = string
    certificate_arn = string
  })
}
