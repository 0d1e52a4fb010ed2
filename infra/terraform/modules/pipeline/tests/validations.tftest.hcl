# Each validation of a variable refuses what it is there to refuse.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name   = "forebay-test"
  stream = { kind = "msk_standard" }
}

run "refuses_name" {
  command = plan

  variables {
    name = "Forebay"
  }

  expect_failures = [var.name]
}

run "refuses_architecture" {
  command = plan

  variables {
    architecture = "arm"
  }

  expect_failures = [var.architecture]
}

run "refuses_alarm_email" {
  command = plan

  variables {
    alarm_email = "ops"
  }

  expect_failures = [var.alarm_email]
}

run "refuses_cidr" {
  command = plan

  variables {
    network = { cidr = "10.0.0.0/24" }
  }

  expect_failures = [var.network]
}

run "refuses_nat" {
  command = plan

  variables {
    network = { nat = "two" }
  }

  expect_failures = [var.network]
}

run "refuses_endpoint_zones" {
  command = plan

  variables {
    network = { endpoint_zones = 4 }
  }

  expect_failures = [var.network]
}

run "refuses_flow_log_days" {
  command = plan

  variables {
    network = { flow_log_days = 8 }
  }

  expect_failures = [var.network]
}

run "refuses_subnets_of_an_existing_vpc" {
  command = plan

  variables {
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1"], route_table_ids = [] } }
  }

  expect_failures = [var.network]
}

run "refuses_stream_kind" {
  command = plan

  variables {
    stream = { kind = "kinesis" }
  }

  expect_failures = [var.stream]
}

run "refuses_broker_count" {
  command = plan

  variables {
    stream = { kind = "msk_standard", broker = { count = 2 } }
  }

  expect_failures = [var.stream]
}

run "refuses_existing_msk_without_a_cluster" {
  command = plan

  variables {
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = [] } }
    stream  = { kind = "existing_msk" }
  }

  expect_failures = [var.stream]
}

run "refuses_cluster_arn" {
  command = plan

  variables {
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = [] } }
    stream  = { kind = "existing_msk", existing_msk = { cluster_arn = "ours", security_group_id = "sg-1" } }
  }

  expect_failures = [var.stream]
}

run "refuses_existing_msk_without_its_vpc" {
  command = plan

  variables {
    stream = { kind = "existing_msk", existing_msk = { cluster_arn = "arn:aws:kafka:eu-west-1:123456789012:cluster/ours/1", security_group_id = "sg-1" } }
  }

  expect_failures = [var.stream]
}

run "refuses_external_without_brokers" {
  command = plan

  variables {
    stream = { kind = "external" }
  }

  expect_failures = [var.stream]
}

run "refuses_brokers" {
  command = plan

  variables {
    stream = { kind = "external", external = { brokers = ["b.example"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf", inside_vpc = true } }
  }

  expect_failures = [var.stream]
}

run "refuses_sasl_mechanism" {
  command = plan

  variables {
    stream = { kind = "external", external = { brokers = ["b.example:9092"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf", inside_vpc = true, sasl_mechanism = "GSSAPI" } }
  }

  expect_failures = [var.stream]
}

run "refuses_secret_arn" {
  command = plan

  variables {
    stream = { kind = "external", external = { brokers = ["b.example:9092"], sasl_username = "u", secret_arn = "s3cret", inside_vpc = true } }
  }

  expect_failures = [var.stream]
}

run "refuses_no_way_out" {
  command = plan

  variables {
    stream = { kind = "external", external = { brokers = ["b.example:9092"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf", inside_vpc = false } }
  }

  expect_failures = [var.stream]
}

run "refuses_login" {
  command = plan

  variables {
    database = { login = "password" }
  }

  expect_failures = [var.database]
}

run "refuses_storage" {
  command = plan

  variables {
    database = { storage_gb = 200, max_storage_gb = 100 }
  }

  expect_failures = [var.database]
}

run "refuses_backup_days" {
  command = plan

  variables {
    database = { backup_days = 0 }
  }

  expect_failures = [var.database]
}

run "refuses_engine_version" {
  command = plan

  variables {
    database = { engine_version = "9.6" }
  }

  expect_failures = [var.database]
}

run "refuses_dedup_store" {
  command = plan

  variables {
    dedup_store = "redis"
  }

  expect_failures = [var.dedup_store]
}

run "refuses_retention_days" {
  command = plan

  variables {
    archive = { retention_days = { raw = 0 } }
  }

  expect_failures = [var.archive]
}

run "refuses_kms_key_arn" {
  command = plan

  variables {
    archive = { kms_key_arn = "alias/ours" }
  }

  expect_failures = [var.archive]
}

run "refuses_mapping_mode" {
  command = plan

  variables {
    mappings = { mode = "fast" }
  }

  expect_failures = [var.mappings]
}

run "refuses_batch_response" {
  command = plan

  variables {
    mappings = { mode = "provisioned", batch_response = "half" }
  }

  expect_failures = [var.mappings]
}

run "refuses_partial_on_demand" {
  command = plan

  variables {
    mappings = { batch_response = "partial" }
  }

  expect_failures = [var.mappings]
}

run "refuses_keep_failed_on_demand" {
  command = plan

  variables {
    mappings = { keep_failed = true }
  }

  expect_failures = [var.mappings]
}

run "refuses_batch_size" {
  command = plan

  variables {
    mappings = { processor = { batch_size = 20000 } }
  }

  expect_failures = [var.mappings]
}

run "refuses_objects_of_single_records" {
  command = plan

  variables {
    mappings = { archiver = { batch_size = 10 } }
  }

  expect_failures = [var.mappings]
}

run "refuses_pollers" {
  command = plan

  variables {
    mappings = { mode = "provisioned", processor = { pollers = { minimum = 3, maximum = 2 } } }
  }

  expect_failures = [var.mappings]
}

run "refuses_function_name" {
  command = plan

  variables {
    functions = { producer = {} }
  }

  expect_failures = [var.functions]
}

run "refuses_memory" {
  command = plan

  variables {
    functions = { scorer = { memory_mb = 64 } }
  }

  expect_failures = [var.functions]
}

run "refuses_timeout_behind_a_mapping" {
  command = plan

  variables {
    functions = { processor = { timeout_sec = 900 } }
  }

  expect_failures = [var.functions]
}

run "refuses_timeout_behind_the_api" {
  command = plan

  variables {
    functions = { query = { timeout_sec = 60 } }
  }

  expect_failures = [var.functions]
}

run "refuses_secret_as_a_setting" {
  command = plan

  variables {
    settings = { DB_PASSWORD = "s3cret" }
  }

  expect_failures = [var.settings]
}

run "refuses_batch_response_as_a_setting" {
  command = plan

  variables {
    settings = { BATCH_RESPONSE = "partial" }
  }

  expect_failures = [var.settings]
}

run "refuses_dedup_store_as_a_setting" {
  command = plan

  variables {
    settings = { DEDUP_STORE = "postgres" }
  }

  expect_failures = [var.settings]
}

run "refuses_throttle" {
  command = plan

  variables {
    front_door = { rate = 0 }
  }

  expect_failures = [var.front_door]
}

run "refuses_certificate_arn" {
  command = plan

  variables {
    front_door = { domain = { name = "a.example.org", certificate_arn = "mine" } }
  }

  expect_failures = [var.front_door]
}

run "refuses_log_days" {
  command = plan

  variables {
    log_days = 31
  }

  expect_failures = [var.log_days]
}
