variable "name" {
  description = "Name of the cluster that is made, and prefix of other names."
  type        = string
}

variable "kind" {
  description = "msk_express, msk_standard, existing_msk or external."
  type        = string
}

variable "broker" {
  description = "Brokers of the cluster that is made."
  type = object({
    instance_type = string
    count         = number
    storage_gb    = number
    kafka_version = string
    log_days      = number
  })
}

variable "existing_msk" {
  description = "A cluster of MSK in this VPC, with IAM authentication, and the security group of its brokers."
  type = object({
    cluster_arn       = string
    security_group_id = string
  })
}

variable "external" {
  description = "Any other Kafka: brokers as host:port, and a secret with username and password."
  type = object({
    brokers        = list(string)
    sasl_mechanism = string
    sasl_username  = string
    secret_arn     = string
    inside_vpc     = bool
  })
}

variable "vpc_id" {
  type = string
}

variable "subnet_ids" {
  type = list(string)
}

variable "functions_security_group_id" {
  description = "Security group of the functions, which may connect to the brokers."
  type        = string
}

variable "endpoints_security_group_id" {
  description = "Security group of the interface endpoints, which the pollers of a mapping call from the brokers' subnets."
  type        = string
}
