# Each validation of a variable refuses what it is there to refuse: each run has one wrong value for each of several variables,
# because a run takes seconds. The validations of stream look at network, so both are not wrong in one run.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name   = "forebay-test"
  stream = { kind = "msk_standard" }
}

run "refuses_1" {
  command = plan

  variables {
    # name
    name = "Forebay"
    # architecture
    architecture = "arm"
    # alarm email
    alarm_email = "ops"
    # stream kind
    stream = { kind = "kinesis" }
    # login
    database = { login = "password" }
    # dedup store
    dedup_store = "redis"
    # retention days
    archive = { retention_days = { raw = 0 } }
    # scan limit
    lake = { scan_limit_gb = 0 }
    # mapping mode
    mappings = { mode = "fast" }
    # function name
    functions = { producer = {} }
    # secret as a setting
    settings = { DB_PASSWORD = "s3cret" }
    # throttle
    front_door = { rate = 0 }
    # log days
    log_days = 31
    # live version
    live_versions = { ingest = "$LATEST" }
    # traces kind
    traces = { to = "jaeger" }
  }

  expect_failures = [
    var.name,
    var.architecture,
    var.alarm_email,
    var.stream,
    var.database,
    var.dedup_store,
    var.archive,
    var.lake,
    var.mappings,
    var.functions,
    var.settings,
    var.front_door,
    var.log_days,
    var.live_versions,
    var.traces,
  ]
}

run "refuses_2" {
  command = plan

  variables {
    # broker count
    stream = { kind = "msk_standard", broker = { count = 2 } }
    # storage
    database = { storage_gb = 200, max_storage_gb = 100 }
    # kms key arn
    archive = { kms_key_arn = "alias/ours" }
    # batch response
    mappings = { mode = "provisioned", batch_response = "half" }
    # memory
    functions = { scorer = { memory_mb = 64 } }
    # batch response as a setting
    settings = { BATCH_RESPONSE = "partial" }
    # certificate arn
    front_door = { domain = { name = "a.example.org", certificate_arn = "mine" } }
    # collector without an address
    traces = { to = "otlp", inside_vpc = true }
  }

  expect_failures = [
    var.stream,
    var.database,
    var.archive,
    var.mappings,
    var.functions,
    var.settings,
    var.front_door,
    var.traces,
  ]
}

run "refuses_3" {
  command = plan

  variables {
    # existing msk without a cluster
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = ["rtb-1"] } }
    stream  = { kind = "existing_msk" }
    # backup days
    database = { backup_days = 0 }
    # partial on demand
    mappings = { batch_response = "partial" }
    # timeout behind a mapping
    functions = { processor = { timeout_sec = 900 } }
    # dedup store as a setting
    settings = { DEDUP_STORE = "postgres" }
    # a ratio in percent
    traces = { to = "xray", ratio = 1.5 }
  }

  expect_failures = [
    var.stream,
    var.database,
    var.mappings,
    var.functions,
    var.settings,
    var.traces,
  ]
}

run "refuses_4" {
  command = plan

  variables {
    # cluster arn
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = ["rtb-1"] } }
    stream  = { kind = "existing_msk", existing_msk = { cluster_arn = "ours", security_group_id = "sg-1" } }
    # engine version
    database = { engine_version = "9.6" }
    # keep failed on demand
    mappings = { keep_failed = true }
    # timeout behind the api
    functions = { query = { timeout_sec = 60 } }
    # access store as a setting
    settings = { ACCESS_STORE = "postgres" }
    # form of user ids
    traces = { user_id = "md5" }
  }

  expect_failures = [
    var.stream,
    var.database,
    var.mappings,
    var.functions,
    var.settings,
    var.traces,
  ]
}

run "refuses_5" {
  command = plan

  variables {
    # existing msk without its vpc
    stream = { kind = "existing_msk", existing_msk = { cluster_arn = "arn:aws:kafka:eu-west-1:123456789012:cluster/ours/1", security_group_id = "sg-1" } }
    # batch size
    mappings = { processor = { batch_size = 20000 } }
    # replica behind a proxy
    database = { read_replica = true, proxy = true }
    # address of the collector
    traces = { to = "otlp", endpoint = "collector:4318", inside_vpc = true }
  }

  expect_failures = [
    var.stream,
    var.database,
    var.mappings,
    var.traces,
  ]
}

run "refuses_6" {
  command = plan

  variables {
    # external without brokers
    stream = { kind = "external" }
    # objects of single records
    mappings = { archiver = { batch_size = 10 } }
    # collector over plain http outside
    network = { nat = "single" }
    traces  = { to = "otlp", endpoint = "http://otlp.example.com:4318/v1/traces" }
  }

  expect_failures = [
    var.stream,
    var.mappings,
    var.traces,
  ]
}

run "refuses_7" {
  command = plan

  variables {
    # brokers
    stream = { kind = "external", external = { brokers = ["b.example"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf", inside_vpc = true } }
    # pollers
    mappings = { mode = "provisioned", processor = { pollers = { minimum = 3, maximum = 2 } } }
    # no way to the collector
    traces = { to = "otlp", endpoint = "https://otlp.example.com/v1/traces" }
  }

  expect_failures = [
    var.stream,
    var.mappings,
    var.traces,
  ]
}

run "refuses_8" {
  command = plan

  variables {
    # sasl mechanism
    stream = { kind = "external", external = { brokers = ["b.example:9092"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf", inside_vpc = true, sasl_mechanism = "GSSAPI" } }
    # x-ray inside the vpc
    traces = { to = "xray", inside_vpc = true }
  }

  expect_failures = [
    var.stream,
    var.traces,
  ]
}

run "refuses_9" {
  command = plan

  variables {
    # secret arn
    stream = { kind = "external", external = { brokers = ["b.example:9092"], sasl_username = "u", secret_arn = "s3cret", inside_vpc = true } }
  }

  expect_failures = [
    var.stream,
  ]
}

run "refuses_10" {
  command = plan

  variables {
    # no way out
    stream = { kind = "external", external = { brokers = ["b.example:9092"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf", inside_vpc = false } }
  }

  expect_failures = [
    var.stream,
  ]
}

run "refuses_11" {
  command = plan

  variables {
    # cidr
    network = { cidr = "10.0.0.0/24" }
  }

  expect_failures = [
    var.network,
  ]
}

run "refuses_12" {
  command = plan

  variables {
    # nat
    network = { nat = "two" }
  }

  expect_failures = [
    var.network,
  ]
}

run "refuses_13" {
  command = plan

  variables {
    # endpoint zones
    network = { endpoint_zones = 4 }
  }

  expect_failures = [
    var.network,
  ]
}

run "refuses_14" {
  command = plan

  variables {
    # flow log days
    network = { flow_log_days = 8 }
  }

  expect_failures = [
    var.network,
  ]
}

run "refuses_15" {
  command = plan

  variables {
    # subnets of an existing vpc
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1"], route_table_ids = [] } }
  }

  expect_failures = [
    var.network,
  ]
}

run "refuses_16" {
  command = plan

  variables {
    # route tables of an existing vpc
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = [] } }
    # a connection past the variables
    settings = { KAFKA_BROKERS = "b.example:9092" }
    # replica arn
    archive_replica_arn = "ours-replica"
  }

  expect_failures = [
    var.network,
    var.settings,
    var.archive_replica_arn,
  ]
}

run "refuses_17" {
  command = plan

  variables {
    # nat in an existing vpc
    network = { nat = "single", existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = ["rtb-1"] } }
    # replica of an archive with a key
    archive             = { kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/ours" }
    archive_replica_arn = "arn:aws:s3:::ours-replica"
    # traces as a setting
    settings = { TRACES = "xray" }
  }

  expect_failures = [
    var.network,
    var.archive_replica_arn,
    var.settings,
  ]
}

run "refuses_18" {
  command = plan

  variables {
    # endpoints of an existing vpc
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = ["rtb-1"], endpoints = ["sqs"] } }
  }

  expect_failures = [
    var.network,
  ]
}

run "refuses_19" {
  command = plan

  variables {
    # two ways to the brokers
    stream = { kind = "external", external = { brokers = ["b.k.example:9092"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf", inside_vpc = true, private_link = { service_name = "com.amazonaws.vpce.eu-west-1.vpce-svc-0a1", domain = "k.example" } } }
  }

  expect_failures = [
    var.stream,
  ]
}

run "refuses_20" {
  command = plan

  variables {
    # service of the vendor
    stream = { kind = "external", external = { brokers = ["b.k.example:9092"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf", private_link = { service_name = "kafka", domain = "k.example" } } }
  }

  expect_failures = [
    var.stream,
  ]
}

run "refuses_21" {
  command = plan

  variables {
    # domain of the vendor
    stream = { kind = "external", external = { brokers = ["b.k.example:9092"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf", private_link = { service_name = "com.amazonaws.vpce.eu-west-1.vpce-svc-0a1", domain = "other.example" } } }
  }

  expect_failures = [
    var.stream,
  ]
}

run "refuses_22" {
  command = plan

  variables {
    # no way out of an existing vpc
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = ["rtb-1"] } }
    stream  = { kind = "external", external = { brokers = ["b.k.example:9092"], sasl_username = "u", secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:k-AbCdEf" } }
  }

  expect_failures = [
    var.stream,
  ]
}

run "refuses_23" {
  command = plan

  variables {
    # secret of webhooks
    network  = { nat = "single" }
    webhooks = { key_secret_arn = "a-key-in-the-state-of-terraform-itself" }
    # secret of the console
    query = { console = { key_secret_arn = "a-key-in-the-state-of-terraform-itself" } }
    # its key as a setting
    settings = { CONSOLE_KEY = "a-key-in-the-state-of-terraform-itself" }
  }

  expect_failures = [
    var.webhooks,
    var.query,
    var.settings,
  ]
}

run "refuses_24" {
  command = plan

  variables {
    # key of the secret of webhooks
    network  = { nat = "single" }
    webhooks = { key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:w-AbCdEf", kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:alias/ours" }
    # the key itself as a setting
    settings = { WEBHOOK_KEY = "a-key-in-the-state-of-terraform-itself" }
    # key of the secret of the console
    query = { console = { key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:c-AbCdEf", kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:alias/ours" } }
  }

  expect_failures = [
    var.webhooks,
    var.settings,
    var.query,
  ]
}

run "refuses_25" {
  command = plan

  variables {
    # webhooks without a way out
    webhooks = { key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:w-AbCdEf" }
  }

  expect_failures = [
    var.webhooks,
  ]
}

run "refuses_26" {
  command = plan

  variables {
    # webhooks without a way out of an existing vpc
    network  = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = ["rtb-1"] } }
    webhooks = { key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:w-AbCdEf" }
  }

  expect_failures = [
    var.webhooks,
  ]
}

run "refuses_27" {
  command = plan

  variables {
    # the switch of streams, without what belongs to it
    settings = { STREAM = "on" }
  }

  expect_failures = [
    var.settings,
  ]
}

run "refuses_28" {
  command = plan

  variables {
    # the switch of the console, without what belongs to it
    settings = { CONSOLE = "on" }
  }

  expect_failures = [
    var.settings,
  ]
}
