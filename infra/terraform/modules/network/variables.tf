variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "region" {
  description = "The region, for the names of endpoint services."
  type        = string
}

variable "cidr" {
  description = "Addresses of the VPC that is made."
  type        = string
}

variable "existing" {
  description = "A VPC that exists, instead: its private subnets, in three zones, and their route tables."
  type = object({
    vpc_id          = string
    cidr            = string
    subnet_ids      = list(string)
    route_table_ids = list(string)
    endpoints       = set(string)
  })
  default = null
}

variable "nat" {
  description = "Way out of the VPC: none, single (one NAT gateway) or per_zone."
  type        = string
}

variable "has_way_out" {
  description = "Whether functions can reach the Internet, through this NAT or that of the VPC that exists."
  type        = bool
}

variable "private_link" {
  description = "Service of a vendor that gets an endpoint, and the domain whose names lead there; null means none."
  type = object({
    service_name = string
    domain       = string
  })
}

variable "private_link_ports" {
  description = "Ports of that service."
  type        = list(number)
}

variable "collector_port" {
  description = "Port of a collector of traces in the VPC; null means none."
  type        = number
}

variable "interface_endpoints" {
  description = "Services that get an interface endpoint, such as lambda or sts. S3 and DynamoDB have gateway endpoints, which cost nothing."
  type        = set(string)
}

variable "endpoint_zones" {
  description = "In how many zones each interface endpoint has an address; each costs by the hour."
  type        = number
}

variable "flow_log_days" {
  description = "How long flow logs are kept, in days; 0 means no flow logs."
  type        = number
}
