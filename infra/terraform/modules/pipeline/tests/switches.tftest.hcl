# Each switch in each of its positions. The plans that these runs make are checked once more by
# infra/check/assertions.py, which looks into the resources of the submodules.

mock_provider "aws" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  name   = "forebay-test"
  stream = { kind = "msk_standard" }
}

run "defaults" {
  command = plan

  assert {
    condition     = !contains(keys(module.function), "notifier") && alltrue([for environment in local.environment : !contains(keys(environment), "WEBHOOK_KEY_SECRET_ARN")])
    error_message = "webhooks are off unless they are wanted"
  }

  assert {
    condition     = length(module.mapping) == 3 && length(module.function) == 9
    error_message = "three mappings; ten functions with the maintainer"
  }

  assert {
    condition     = join(",", local.endpoints) == "lambda,kafka,sts,secretsmanager"
    error_message = "without NAT, an on-demand mapping and the secret need endpoints"
  }

  assert {
    condition     = toset(keys(module.schedule)) == toset(["maintainer", "rescorer", "aggregator"])
    error_message = "these run by themselves"
  }

  assert {
    condition = toset(flatten([for statement in local.statements.aggregator : statement.actions])) == toset([
      "kafka:GetBootstrapBrokers", "kafka-cluster:Connect", "kafka-cluster:DescribeTopic", "secretsmanager:GetSecretValue",
    ])
    error_message = "the aggregator reads no record, writes none and calls nobody"
  }

  assert {
    condition     = one([for statement in local.statements.aggregator : statement.resources if statement.sid == "FindEnd"]) == [local.topic["raw-events"]]
    error_message = "the aggregator knows one topic"
  }

  assert {
    condition     = local.sizes.aggregator == { memory_mb = 512, timeout_sec = 60, reserved_concurrency = 1 } && local.in_vpc.aggregator
    error_message = "one run at a time, where Postgres and Kafka are"
  }

  assert {
    condition     = local.environment.archiver.BATCH_RESPONSE == "whole"
    error_message = "an on-demand mapping knows no partial answers"
  }

  assert {
    condition     = output.archive_tables == null && output.archive_rules.query_result_days == null
    error_message = "the archive is no table unless it is asked for"
  }

  assert {
    condition     = !contains(keys(local.environment.query), "MSK_CLUSTER_ARN") && local.environment.processor.MSK_CLUSTER_ARN == module.stream.cluster_arn
    error_message = "a function gets the settings that it reads, and no others"
  }

  assert {
    condition     = length([for name in keys(local.environment.query) : name if startswith(name, "KAFKA_") || startswith(name, "STREAM")]) == 0 && !contains(flatten([for statement in local.statements.query : statement.actions]), "kafka-cluster:Connect")
    error_message = "streams are off unless they are wanted, and query then has no Kafka"
  }

  assert {
    condition     = length([for name in keys(local.environment.query) : name if can(regex("CONSOLE|MAINTAINER|REDRIVER", name))]) == 0 && !contains(flatten([for statement in local.statements.query : statement.actions]), "lambda:InvokeFunction") && length([for route in keys(local.routes) : route if strcontains(route, "console")]) == 0
    error_message = "the console is off unless it is wanted, and query then invokes nobody"
  }

  assert {
    condition     = aws_lambda_invocation.maintain.input == "{\"action\":\"maintain\",\"by\":\"terraform\"}"
    error_message = "the maintainer is invoked at deploy"
  }
}

run "express_provisioned_partial" {
  command = plan

  variables {
    stream   = { kind = "msk_express" }
    mappings = { mode = "provisioned", batch_response = "partial" }
  }

  assert {
    condition     = local.environment.archiver.BATCH_RESPONSE == "partial"
    error_message = "mappings.batch_response sets BATCH_RESPONSE"
  }

  assert {
    condition     = !contains(local.endpoints, "sts")
    error_message = "provisioned mappings need no endpoint of STS"
  }
}

run "provisioned_whole_keeps_failed" {
  command = plan

  variables {
    mappings = { mode = "provisioned", keep_failed = true }
  }

  assert {
    condition     = local.environment.archiver.BATCH_RESPONSE == "whole" && contains([for statement in local.statements.processor : statement.sid], "KeepFailedBatches")
    error_message = "the function's role writes the batch that is given up"
  }
}

run "existing_msk_in_an_existing_vpc" {
  command = plan

  variables {
    network = {
      existing = {
        vpc_id          = "vpc-1"
        cidr            = "10.0.0.0/16"
        subnet_ids      = ["subnet-1", "subnet-2", "subnet-3"]
        route_table_ids = ["rtb-1"]
        endpoints       = ["sts"]
      }
    }
    stream = {
      kind = "existing_msk"
      existing_msk = {
        cluster_arn       = "arn:aws:kafka:eu-west-1:123456789012:cluster/ours/0f1e2d3c-1"
        security_group_id = "sg-1"
      }
    }
  }

  assert {
    condition     = module.network.made_endpoints == toset(["dynamodb", "s3", "kafka", "lambda", "secretsmanager"])
    error_message = "an endpoint that exists is not made again"
  }

  assert {
    condition     = module.network.vpc_id == "vpc-1" && local.environment.ingest.MSK_CLUSTER_ARN == "arn:aws:kafka:eu-west-1:123456789012:cluster/ours/0f1e2d3c-1"
    error_message = "what exists is used"
  }

  assert {
    condition     = local.topic["raw-events"] == "arn:aws:kafka:eu-west-1:123456789012:topic/ours/0f1e2d3c-1/raw-events"
    error_message = "topics are named after the cluster"
  }
}

run "external_kafka_over_nat" {
  command = plan

  variables {
    network = { nat = "single" }
    stream = {
      kind = "external"
      external = {
        brokers        = ["b1.kafka.example:9092", "b2.kafka.example:9092"]
        sasl_mechanism = "PLAIN"
        sasl_username  = "forebay"
        secret_arn     = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf"
      }
    }
  }

  assert {
    condition     = local.environment.ingest.KAFKA_SASL_PASSWORD_SECRET_ARN == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf:password" && local.environment.ingest.KAFKA_SECURITY == "sasl"
    error_message = "the login comes from the secret"
  }

  assert {
    condition     = length(local.endpoints) == 0
    error_message = "with NAT, no interface endpoint is needed"
  }
}

run "external_kafka_inside_the_vpc" {
  command = plan

  variables {
    stream = {
      kind = "external"
      external = {
        brokers       = ["b1.kafka.internal:9096"]
        sasl_username = "forebay"
        secret_arn    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf"
        inside_vpc    = true
      }
    }
  }

  assert {
    condition     = length(local.external.subnet_ids) == 3
    error_message = "the pollers join the VPC"
  }

  assert {
    condition     = join(",", local.endpoints) == "lambda,sts,secretsmanager"
    error_message = "pollers in a VPC without NAT call Lambda, STS and Secrets Manager through endpoints"
  }
}

run "external_kafka_over_private_link" {
  command = plan

  variables {
    stream = {
      kind = "external"
      external = {
        brokers       = ["b1.k.kafka.example:9092", "b2.k.kafka.example:9092"]
        sasl_username = "forebay"
        secret_arn    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf"
        private_link  = { service_name = "com.amazonaws.vpce.eu-west-1.vpce-svc-0a1b2c", domain = "k.kafka.example" }
      }
    }
  }

  assert {
    condition     = !local.has_way_out && length(local.external.subnet_ids) == 3
    error_message = "nothing goes out of the VPC, and the pollers join it"
  }

  assert {
    condition     = module.network.private_link_names == toset(["k.kafka.example", "*.k.kafka.example"])
    error_message = "the brokers' names lead to the endpoint"
  }
}

run "external_kafka_from_an_existing_vpc" {
  command = plan

  variables {
    network = {
      existing = {
        vpc_id          = "vpc-1"
        cidr            = "10.0.0.0/16"
        subnet_ids      = ["subnet-1", "subnet-2", "subnet-3"]
        route_table_ids = []
        has_nat         = true
        endpoints       = ["s3", "dynamodb"]
      }
    }
    stream = {
      kind = "external"
      external = {
        brokers       = ["b1.kafka.example:9092"]
        sasl_username = "forebay"
        secret_arn    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf"
      }
    }
  }

  assert {
    condition     = local.has_way_out && length(module.network.made_endpoints) == 0
    error_message = "what the VPC has is used, and nothing is made twice"
  }
}

run "nat_in_each_zone" {
  command = plan

  variables {
    network = { nat = "per_zone" }
  }

  assert {
    condition     = length(local.endpoints) == 0
    error_message = "with NAT, no interface endpoint is needed"
  }
}

run "database_by_iam" {
  command = plan

  variables {
    database = { login = "iam" }
  }

  assert {
    condition     = local.environment.query.DB_AUTH == "iam" && local.environment.query.DB_USER == "forebay_functions" && contains(keys(local.environment.maintainer), "DB_PASSWORD_SECRET_ARN")
    error_message = "functions use a token, the maintainer is the owner"
  }
}

run "database_by_iam_through_a_proxy" {
  command = plan

  variables {
    database = { login = "iam", proxy = true, multi_az = true }
  }

  assert {
    condition     = local.environment.query.DB_POOLER == "transaction" && !contains(keys(local.environment.query), "DB_CA_FILE") && local.environment.maintainer.DB_AUTH == "iam"
    error_message = "the proxy has a certificate of a public authority, and pools transactions"
  }

  assert {
    condition     = !contains(local.endpoints, "secretsmanager")
    error_message = "nothing in the VPC reads a secret"
  }
}

run "database_by_secret_through_a_proxy" {
  command = plan

  variables {
    database = { proxy = true }
  }

  assert {
    condition     = contains(keys(local.environment.processor), "DB_PASSWORD_SECRET_ARN") && local.environment.processor.DB_HOST == "mocked.proxy.eu-west-1.rds.example"
    error_message = "functions connect to the proxy"
  }
}

run "database_with_a_read_replica" {
  command = plan

  variables {
    database = { read_replica = true }
  }

  override_resource {
    target          = module.database.aws_db_instance.replica
    override_during = plan
    values          = { address = "replica.eu-west-1.rds.example", resource_id = "db-REPLICA" }
  }

  assert {
    condition     = local.environment.query.DB_READ_HOST == "replica.eu-west-1.rds.example" && local.environment.query.DB_HOST == "mocked.eu-west-1.rds.example"
    error_message = "query reads the replica, with everything else as for the primary"
  }

  assert {
    condition     = local.statements.query[1].sid == "ReadDatabaseLogin"
    error_message = "with a secret, the replica's login is the primary's"
  }
}

run "database_by_iam_with_a_read_replica" {
  command = plan

  variables {
    database = { login = "iam", read_replica = true }
  }

  override_resource {
    target          = module.database.aws_db_instance.replica
    override_during = plan
    values          = { address = "replica.eu-west-1.rds.example", resource_id = "db-REPLICA" }
  }

  assert {
    condition = one([for statement in local.statements.query : statement.resources if statement.sid == "ConnectToDatabase"]) == tolist([
      "arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-MOCKED/forebay_functions",
      "arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-REPLICA/forebay_functions",
    ])
    error_message = "query logs in at the replica with a token"
  }

  assert {
    condition     = one([for statement in local.statements.processor : statement.resources if statement.sid == "ConnectToDatabase"]) == ["arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-MOCKED/forebay_functions"]
    error_message = "nobody else does"
  }
}

run "claims_in_postgres" {
  command = plan

  variables {
    dedup_store = "postgres"
  }

  assert {
    condition     = module.state.dedup_table == null && local.environment.processor.DEDUP_STORE == "postgres" && !contains(keys(local.environment.processor), "DEDUP_TABLE")
    error_message = "no table for claims"
  }

  assert {
    condition     = !contains([for statement in local.statements.processor : statement.sid], "Claims")
    error_message = "no right on a table that does not exist"
  }
}

run "archive_with_a_key" {
  command = plan

  variables {
    archive = { kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/ours", force_destroy = true, bucket = "ours" }
  }

  assert {
    condition     = alltrue([for name in ["archiver", "processor", "redriver", "replayer"] : contains([for statement in local.statements[name] : statement.sid], "UseArchiveKey")])
    error_message = "whoever uses the bucket may use its key"
  }
}

run "archive_as_tables" {
  command = plan

  variables {
    archive = { bucket = "ours" }
    lake    = { scan_limit_gb = 2 }
  }

  assert {
    condition     = output.archive_tables.database == "forebay_test" && length(output.archive_tables.views) == 7
    error_message = "the database and the views are made"
  }

  assert {
    condition     = output.archive_rules.query_result_days == 7
    error_message = "results of queries expire, here and in a copy"
  }
}

run "archive_as_tables_with_a_key" {
  command = plan

  variables {
    archive = { kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/ours" }
    lake    = {}
  }
}

run "settings_reach_every_reader" {
  command = plan

  variables {
    settings = { FRAUD_THRESHOLD = "70", LOG_LEVEL = "debug" }
  }

  assert {
    condition     = alltrue([for name in ["processor", "rescorer", "replayer"] : local.environment[name].FRAUD_THRESHOLD == "70"]) && !contains(keys(local.environment.ingest), "FRAUD_THRESHOLD")
    error_message = "all that read it agree"
  }

  assert {
    condition     = alltrue([for environment in local.environment : environment.LOG_LEVEL == "debug"])
    error_message = "every function reads LOG_LEVEL"
  }
}

run "sizes_and_concurrency" {
  command = plan

  variables {
    functions           = { processor = { memory_mb = 2048 }, rescorer = { timeout_sec = 300 } }
    reserve_concurrency = false
    architecture        = "x86_64"
    alarm_email         = "ops@example.org"
    network             = { flow_log_days = 0, endpoint_zones = 1 }
  }

  assert {
    condition     = local.sizes.processor == { memory_mb = 2048, timeout_sec = 300, reserved_concurrency = -1 } && local.sizes.rescorer.timeout_sec == 300 && local.sizes.rescorer.reserved_concurrency == -1
    error_message = "what is set holds, the rest stays"
  }
}

run "aliases_stay" {
  command = plan

  variables {
    live_versions = { ingest = "7" }
  }

  assert {
    condition     = module.function["ingest"].live_version == "7" && module.function["processor"].live_version == "1"
    error_message = "the alias of a function with a live version stays, that of another is the new version"
  }

  assert {
    condition     = output.functions.ingest.version == "1" && output.functions.ingest.alarm == "forebay-test-ingest-version-1" && output.functions.maintainer.alarm == null
    error_message = "canary.py moves every alias but the maintainer's, and looks at the new version's alarm"
  }
}

run "domain_of_ones_own" {
  command = plan

  variables {
    front_door = { domain = { name = "ingest.example.org", certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/1" } }
  }

  assert {
    condition     = output.ingest_url == "https://ingest.example.org/events"
    error_message = "the URL has the name"
  }
}

run "an_unknown_setting" {
  command = plan

  variables {
    settings = { FRAUD_TRESHOLD = "70" }
  }

  expect_failures = [terraform_data.settings]
}

run "traces_to_xray" {
  command = plan

  variables {
    traces = { to = "xray", ratio = 0.1, user_id = "hashed" }
  }

  assert {
    condition     = contains(local.endpoints, "xray") && !local.in_vpc.scorer
    error_message = "without NAT, functions in the VPC reach X-Ray through an endpoint; the others stay outside"
  }

  assert {
    condition     = alltrue([for environment in local.environment : environment.TRACES == "xray" && environment.OTEL_TRACES_SAMPLER_ARG == "0.1" && environment.TRACE_USER_ID == "hashed"])
    error_message = "every function sends traces"
  }

  assert {
    condition     = alltrue([for statements in local.statements : contains([for statement in statements : statement.sid], "SendTraces")])
    error_message = "every function may"
  }
}

run "traces_to_a_collector_outside" {
  command = plan

  variables {
    network = { nat = "single" }
    traces  = { to = "otlp", endpoint = "https://otlp.example.com/v1/traces" }
  }

  assert {
    condition     = local.environment.scorer.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT == "https://otlp.example.com/v1/traces" && local.environment.scorer.OTEL_TRACES_SAMPLER_ARG == "0.01"
    error_message = "every function has the collector's address"
  }

  assert {
    condition     = !contains([for statement in local.statements.ingest : statement.sid], "SendTraces") && local.collector_port == null
    error_message = "a collector is no service of AWS, and is reached through the NAT gateway"
  }
}

run "traces_to_a_collector_in_the_vpc" {
  command = plan

  variables {
    traces = { to = "otlp", endpoint = "http://collector.internal:4318/v1/traces", inside_vpc = true }
  }

  assert {
    condition     = local.collector_port == 4318 && local.in_vpc.scorer && local.in_vpc.archiver
    error_message = "scorer and archiver join the VPC, because the collector is there"
  }
}

run "traces_to_a_collector_in_the_vpc_by_https" {
  command = plan

  variables {
    traces = { to = "otlp", endpoint = "https://collector.internal/v1/traces", inside_vpc = true }
  }

  assert {
    condition     = local.collector_port == 443
    error_message = "a URL without a port has that of its scheme"
  }
}

run "webhooks" {
  command = plan

  variables {
    network  = { nat = "single" }
    webhooks = { key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:webhooks-AbCdEf" }
  }

  assert {
    condition     = length(module.mapping) == 4 && module.mapping["notifier"] != null && contains(keys(module.schedule), "notifier")
    error_message = "outcomes are sent as they come, and what failed is sent again every minute"
  }

  assert {
    condition     = !local.mappings.notifier.reports_failed_records && local.sizes.notifier == { memory_mb = 512, timeout_sec = 60, reserved_concurrency = -1 } && local.in_vpc.notifier
    error_message = "a batch fails as a whole; several are sent at once, from where Postgres is"
  }

  assert {
    condition     = toset([for name, environment in local.environment : name if contains(keys(environment), "WEBHOOK_KEY_SECRET_ARN")]) == toset(["maintainer", "notifier"])
    error_message = "the key goes to the one that signs and to the one that hands secrets out"
  }

  assert {
    condition     = one([for statement in local.statements.notifier : statement.resources if statement.sid == "ReadWebhookKey"]) == ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:webhooks-AbCdEf"] && one([for statement in local.statements.maintainer : statement.resources if statement.sid == "ReadWebhookKey"]) == ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:webhooks-AbCdEf"]
    error_message = "both may read this secret"
  }

  assert {
    condition     = toset(flatten([for statement in local.statements.notifier : statement.actions if !startswith(statement.sid, "Poll")])) == toset(["secretsmanager:GetSecretValue"])
    error_message = "the notifier itself calls Postgres and the Internet, and nothing of AWS but its secrets"
  }

  assert {
    condition     = contains(local.delivered_to, "arn:aws:lambda:eu-west-1:123456789012:function:forebay-test-notifier:*")
    error_message = "the redriver delivers what the trigger gave up"
  }
}

run "webhooks_with_a_key_in_production" {
  command = plan

  variables {
    network  = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = ["rtb-1"], has_nat = true } }
    stream   = { kind = "msk_express" }
    mappings = { mode = "provisioned", batch_response = "partial", keep_failed = true }
    database = { login = "iam" }
    traces   = { to = "xray" }
    webhooks = {
      key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:webhooks-AbCdEf"
      kms_key_arn    = "arn:aws:kms:eu-west-1:123456789012:key/ours"
    }
  }

  assert {
    condition     = alltrue([for name in ["maintainer", "notifier"] : one([for statement in local.statements[name] : statement.resources if statement.sid == "DecryptWebhookKey"]) == ["arn:aws:kms:eu-west-1:123456789012:key/ours"]])
    error_message = "whoever reads the secret may use its key"
  }

  assert {
    condition     = contains([for statement in local.statements.notifier : statement.sid], "KeepFailedBatches") && !local.mappings.notifier.reports_failed_records
    error_message = "the notifier's role writes the batch that is given up, which is a whole one"
  }
}

run "webhooks_with_a_kafka_elsewhere" {
  command = plan

  variables {
    network = { nat = "single" }
    stream = {
      kind = "external"
      external = {
        brokers       = ["b1.kafka.example:9092"]
        sasl_username = "forebay"
        secret_arn    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf"
      }
    }
    webhooks = { key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:webhooks-AbCdEf" }
  }

  assert {
    condition     = !contains(keys(local.environment.notifier), "KAFKA_BROKERS") && contains([for statement in local.statements.notifier : statement.sid], "PollLogin")
    error_message = "the trigger has the login, and the function has no Kafka"
  }
}

run "streams" {
  command = plan

  variables {
    query    = { stream = true }
    settings = { STREAM_MAX_SEC = "60" }
  }

  assert {
    condition     = local.environment.query.STREAM == "on" && local.environment.query.STREAM_MAX_SEC == "60" && local.environment.query.MSK_CLUSTER_ARN == module.stream.cluster_arn && local.environment.query.KAFKA_SECURITY == "iam"
    error_message = "query has the brokers and the login of the other functions"
  }

  assert {
    condition     = [for name, environment in local.environment : name if contains(keys(environment), "STREAM")] == ["query"]
    error_message = "nobody else reads the switch"
  }

  assert {
    condition = toset(flatten([for statement in local.statements.query : statement.actions if !startswith(statement.actions[0], "dynamodb:")])) == toset([
      "kafka:GetBootstrapBrokers", "kafka-cluster:Connect", "kafka-cluster:DescribeTopic", "kafka-cluster:ReadData", "secretsmanager:GetSecretValue",
    ])
    error_message = "query reads records without a group, and writes none"
  }

  assert {
    condition     = one([for statement in local.statements.query : statement.resources if statement.sid == "ReadOutcomes"]) == [local.topic["processed-events"]]
    error_message = "query knows one topic"
  }

  assert {
    condition     = contains(local.endpoints, "kafka") && local.in_vpc.query
    error_message = "query is where the brokers are, and can look them up"
  }
}

run "streams_of_a_kafka_elsewhere" {
  command = plan

  variables {
    query = { stream = true }
    stream = {
      kind = "external"
      external = {
        brokers       = ["b1.kafka.internal:9096"]
        sasl_username = "forebay"
        secret_arn    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf"
        inside_vpc    = true
      }
    }
    # So that nothing else of query needs a secret.
    database = { login = "iam" }
  }

  assert {
    condition     = local.environment.query.KAFKA_BROKERS == "b1.kafka.internal:9096" && local.environment.query.KAFKA_SASL_PASSWORD_SECRET_ARN == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf:password"
    error_message = "query has the brokers and the login of the other functions"
  }

  assert {
    condition     = one([for statement in local.statements.query : statement.resources if contains(statement.actions, "secretsmanager:GetSecretValue")]) == ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf"] && contains(local.endpoints, "secretsmanager")
    error_message = "query may read the secret with the login, and reaches it"
  }
}

run "a_setting_of_streams_that_are_off" {
  command = plan

  variables {
    settings = { STREAM_MAX_SEC = "60" }
  }

  expect_failures = [terraform_data.settings]
}

run "console" {
  command = plan

  variables {
    query    = { console = { key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:console-AbCdEf" } }
    settings = { CONSOLE_SESSION_MIN = "60" }
  }

  assert {
    condition     = local.environment.query.CONSOLE == "on" && local.environment.query.CONSOLE_KEY_SECRET_ARN == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:console-AbCdEf" && local.environment.query.CONSOLE_SESSION_MIN == "60"
    error_message = "query has the console and its key"
  }

  assert {
    condition     = local.environment.query.MAINTAINER_FUNCTION == "arn:aws:lambda:eu-west-1:123456789012:function:forebay-test-maintainer:live" && local.environment.query.REDRIVER_FUNCTION == "arn:aws:lambda:eu-west-1:123456789012:function:forebay-test-redriver:live"
    error_message = "it calls the live versions"
  }

  assert {
    condition     = [for name, environment in local.environment : name if length(setintersection(keys(environment), ["CONSOLE", "CONSOLE_KEY_SECRET_ARN", "MAINTAINER_FUNCTION", "REDRIVER_FUNCTION"])) > 0] == ["query"]
    error_message = "nobody else has a console"
  }

  assert {
    condition = one([for statement in local.statements.query : statement.resources if contains(statement.actions, "lambda:InvokeFunction")]) == [
      "arn:aws:lambda:eu-west-1:123456789012:function:forebay-test-maintainer:live",
      "arn:aws:lambda:eu-west-1:123456789012:function:forebay-test-redriver:live",
    ]
    error_message = "query invokes these two, and no version that is not live"
  }

  assert {
    condition     = one([for statement in local.statements.query : statement.resources if statement.sid == "ReadConsoleKey"]) == ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:console-AbCdEf"]
    error_message = "it may read the key"
  }

  assert {
    condition     = toset([for route, function in local.routes : route if function == "query" && strcontains(route, "console")]) == toset(["GET /console", "GET /console/{page+}", "POST /console", "POST /console/{page+}"])
    error_message = "pages are asked for and sent"
  }

  assert {
    condition     = local.in_vpc.query && contains(local.endpoints, "lambda") && contains(local.endpoints, "secretsmanager")
    error_message = "without NAT, it invokes and reads its key through endpoints"
  }
}

run "console_with_a_key_in_production" {
  command = plan

  variables {
    stream   = { kind = "msk_express" }
    mappings = { mode = "provisioned", batch_response = "partial", keep_failed = true }
    database = { login = "iam", proxy = true, multi_az = true }
    query = {
      stream = true
      console = {
        key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:console-AbCdEf"
        kms_key_arn    = "arn:aws:kms:eu-west-1:123456789012:key/ours"
      }
    }
  }

  assert {
    condition     = one([for statement in local.statements.query : statement.resources if statement.sid == "DecryptConsoleKey"]) == ["arn:aws:kms:eu-west-1:123456789012:key/ours"]
    error_message = "who reads the secret may use its key"
  }

  assert {
    condition     = join(",", local.endpoints) == "lambda,kafka,secretsmanager"
    error_message = "nothing else there reads a secret, so the endpoint is made for the console"
  }
}

run "console_over_nat" {
  command = plan

  variables {
    network = { nat = "single", endpoint_zones = 1 }
    query   = { console = { key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:console-AbCdEf" } }
  }

  assert {
    condition     = local.has_way_out && length(local.endpoints) == 0
    error_message = "it invokes through the gateway"
  }
}

run "console_in_an_existing_vpc" {
  command = plan

  variables {
    network = { existing = { vpc_id = "vpc-1", cidr = "10.0.0.0/16", subnet_ids = ["subnet-1", "subnet-2", "subnet-3"], route_table_ids = ["rtb-1"], endpoints = ["lambda"] } }
    query   = { console = { key_secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:console-AbCdEf" } }
  }

  assert {
    condition     = !contains(module.network.made_endpoints, "lambda") && contains(module.network.made_endpoints, "secretsmanager")
    error_message = "it invokes through the endpoint that exists"
  }
}

run "a_setting_of_a_console_that_is_off" {
  command = plan

  variables {
    settings = { CONSOLE_SESSION_MIN = "60" }
  }

  expect_failures = [terraform_data.settings]
}
