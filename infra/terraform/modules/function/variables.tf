variable "name" {
  description = "Name of the function, such as forebay-dev-scorer."
  type        = string
}

variable "description" {
  type = string
}

variable "package" {
  description = "Path of the zip that `make package` made."
  type        = string
}

variable "architecture" {
  description = "arm64 or x86_64, as the zip was built."
  type        = string
}

variable "memory_mb" {
  type = number
}

variable "timeout_sec" {
  type = number
}

variable "reserved_concurrency" {
  description = "Most invocations at a time; -1 means no limit of its own."
  type        = number
}

variable "environment" {
  description = "Settings; the function's README lists them."
  type        = map(string)
}

variable "statements" {
  description = "What the function may do, as statements of an IAM policy."
  type = list(object({
    sid       = string
    actions   = list(string)
    resources = list(string)
    condition = optional(map(map(string)))
  }))
}

variable "network" {
  description = "Subnets and security group; null means outside of the VPC."
  type = object({
    subnet_ids        = list(string)
    security_group_id = string
  })
}

variable "log_days" {
  description = "How long logs are kept, in days."
  type        = number
}

variable "async_retries" {
  description = "How often Lambda repeats a failed asynchronous invocation, as those of a schedule are."
  type        = number
}

variable "goes_live_after" {
  description = "The alias moves to a new version only when this value is known: the schema must be there first."
  type        = string
}

variable "live_version" {
  description = "The version at which the alias stays; null means the one that this apply publishes."
  type        = string
}
