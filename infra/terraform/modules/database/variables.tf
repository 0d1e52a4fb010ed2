variable "name" {
  description = "Identifier of the instance."
  type        = string
}

variable "database" {
  description = "The instance. The variable of the same name in the module pipeline explains the members."
  type = object({
    instance_class      = string
    storage_gb          = number
    max_storage_gb      = number
    engine_version      = string
    multi_az            = bool
    proxy               = bool
    login               = string
    backup_days         = number
    deletion_protection = bool
    read_replica        = bool
    log_days            = number
  })
}

variable "iam_user" {
  description = "The database user of the functions with login = \"iam\" and without a proxy."
  type        = string
}

variable "vpc_id" {
  type = string
}

variable "subnet_ids" {
  type = list(string)
}

variable "functions_security_group_id" {
  description = "Security group of the functions, which may connect."
  type        = string
}

variable "account_id" {
  type = string
}

variable "region" {
  type = string
}
