variable "name" {
  description = "Prefix of the tables' names."
  type        = string
}

variable "with_dedup" {
  description = "Whether claims are kept in DynamoDB. Otherwise there is no dedup table."
  type        = bool
}

variable "deletion_protection" {
  description = "Whether the tables refuse to be deleted."
  type        = bool
}
