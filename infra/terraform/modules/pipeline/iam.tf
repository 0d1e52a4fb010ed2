# What each function may do: the calls that its code makes, and no others. The function's README lists them, too.

locals {
  access_table = [module.state.access_table.arn]
  dedup_table  = module.state.dedup_table == null ? [] : [module.state.dedup_table.arn]
  bucket       = [module.archive.arn]
  prefix       = { for prefix in ["raw", "outcomes", "quarantine", "parked", "delivered", "aws/lambda"] : prefix => "${module.archive.arn}/${prefix}/*" }
  topic        = { for topic in ["raw-events", "processed-events", "dead-letter-events"] : topic => "${module.stream.topic_arn_prefix}/${topic}" }
  topics       = values(local.topic)

  # By name and by alias: what a trigger gave up names either.
  delivered_to = flatten([for name in distinct([for mapping in local.mappings : mapping.function]) : [
    for suffix in ["", ":*"] : "arn:aws:lambda:${local.region}:${local.account_id}:function:${var.name}-${name}${suffix}"
  ]])

  # Opens the connection at the start. The action takes no resource.
  connect_to_dynamodb = [{ sid = "ConnectToDynamoDb", actions = ["dynamodb:DescribeEndpoints"], resources = ["*"], condition = null }]

  # The action takes no resource, although it is about one cluster.
  find_brokers   = [{ sid = "FindBrokers", actions = ["kafka:GetBootstrapBrokers"], resources = ["*"], condition = null }]
  connect_to_msk = [{ sid = "ConnectToKafka", actions = ["kafka-cluster:Connect"], resources = [module.stream.cluster_arn], condition = null }]

  # By the topics that are written and read.
  writes = {
    ingest    = [local.topic["raw-events"]]
    processor = [local.topic["processed-events"], local.topic["dead-letter-events"]]
    redriver  = [local.topic["raw-events"]]
    rescorer  = [local.topic["processed-events"]]
  }
  write_to_msk = { for name, topics in local.writes : name => concat(local.find_brokers, local.connect_to_msk, [
    { sid = "WriteOnce", actions = ["kafka-cluster:WriteDataIdempotently"], resources = [module.stream.cluster_arn], condition = null },
    { sid = "WriteRecords", actions = ["kafka-cluster:DescribeTopic", "kafka-cluster:WriteData"], resources = topics, condition = null },
  ]) }
  read_kafka_secret = [{ sid = "ReadKafkaLogin", actions = ["secretsmanager:GetSecretValue"], resources = [module.stream.secret_arn], condition = null }]
  write_to_kafka    = { for name in keys(local.writes) : name => local.is_msk ? local.write_to_msk[name] : local.read_kafka_secret }

  # A stream has no group: its client says where it goes on.
  read_from_msk = concat(local.find_brokers, local.connect_to_msk, [
    { sid = "ReadOutcomes", actions = ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"], resources = [local.topic["processed-events"]], condition = null },
  ])
  read_outcomes = !var.query.stream ? [] : local.is_msk ? local.read_from_msk : local.read_kafka_secret

  # What Lambda does with the function's role for a mapping. Those of EC2 take no ARN. AWS lists them under
  # "Lambda execution role permissions" of its MSK and Apache Kafka triggers.
  poll_network = { sid = "PollFromTheVpc", actions = [
    "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface", "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs",
  ], resources = ["*"], condition = null }
  polls = {
    processor = { topics = [local.topic["raw-events"]], groups = ["processor"] }
    archiver  = { topics = [local.topic["raw-events"], local.topic["processed-events"]], groups = ["archiver-raw", "archiver-outcomes"] }
    notifier  = { topics = [local.topic["processed-events"]], groups = ["notifier"] }
  }
  poll_msk = { for name, poll in local.polls : name => [
    local.poll_network,
    { sid = "PollBrokers", actions = ["kafka:GetBootstrapBrokers"], resources = ["*"], condition = null },
    { sid = "PollCluster", actions = ["kafka:DescribeCluster", "kafka:DescribeClusterV2", "kafka-cluster:Connect", "kafka-cluster:DescribeClusterDynamicConfiguration"], resources = [module.stream.cluster_arn], condition = null },
    { sid = "PollTopics", actions = ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"], resources = poll.topics, condition = null },
    { sid = "PollGroups", actions = ["kafka-cluster:DescribeGroup", "kafka-cluster:AlterGroup"], resources = [for group in poll.groups : "${module.stream.group_arn_prefix}/${group}"], condition = null },
  ] }
  # With a name of its own: the processor's policy has both, and AWS refuses two statements with one name.
  poll_external = [local.poll_network, merge(local.read_kafka_secret[0], { sid = "PollLogin" })]
  keep_failed   = var.mappings.keep_failed ? [{ sid = "KeepFailedBatches", actions = ["s3:PutObject"], resources = ["${module.archive.arn}/aws/lambda/*"], condition = null }] : []
  find_bucket   = var.mappings.keep_failed ? [{ sid = "FindBucketOfFailedBatches", actions = ["s3:ListBucket"], resources = local.bucket, condition = null }] : []

  database_secret  = { sid = "ReadDatabaseLogin", actions = ["secretsmanager:GetSecretValue"], resources = [module.database.secret_arn], condition = null }
  database_token   = { sid = "ConnectToDatabase", actions = ["rds-db:connect"], resources = [module.database.connect_arn], condition = null }
  use_database     = var.database.login == "iam" ? [local.database_token] : [local.database_secret]
  use_database_own = module.database.owner_uses_secret ? [local.database_secret] : [local.database_token]
  # Also at the primary, because the version before, and the one after, may read there under the same role.
  read_database = var.database.login == "iam" ? [merge(local.database_token, { resources = concat([module.database.connect_arn], module.database.replica_connect_arns) })] : [local.database_secret]

  # Secrets that the user makes.
  read_key = { for name, key in { Webhook = var.webhooks, Console = var.query.console } : name => key == null ? [] : concat(
    [{ sid = "Read${name}Key", actions = ["secretsmanager:GetSecretValue"], resources = [key.key_secret_arn], condition = null }],
    key.kms_key_arn == null ? [] : [{ sid = "Decrypt${name}Key", actions = ["kms:Decrypt"], resources = [key.kms_key_arn], condition = null }],
  ) }

  # Lambda checks the alias that is named in the call.
  call_scorer    = [{ sid = "CallScorer", actions = ["lambda:InvokeFunction"], resources = [local.called.scorer], condition = null }]
  call_operators = var.query.console == null ? [] : [{ sid = "CallForOperators", actions = ["lambda:InvokeFunction"], resources = [local.called.maintainer, local.called.redriver], condition = null }]

  encrypt = var.archive.kms_key_arn == null ? [] : [{ sid = "UseArchiveKey", actions = ["kms:Decrypt", "kms:GenerateDataKey"], resources = [var.archive.kms_key_arn], condition = null }]

  # The actions take no resource. AWS names none for the endpoint of traces by OTLP: these three are what others needed.
  send_traces = var.traces.to == "xray" ? [{ sid = "SendTraces", actions = ["xray:PutSpans", "xray:PutSpansForIndexing", "xray:PutTraceSegments"], resources = ["*"], condition = null }] : []

  statements = { for name in keys(local.functions) : name => concat(local.own_statements[name], local.send_traces) }

  own_statements = {
    ingest = concat(local.write_to_kafka.ingest, local.connect_to_dynamodb, [
      { sid = "KeysAndLimits", actions = ["dynamodb:GetItem", "dynamodb:UpdateItem"], resources = local.access_table, condition = null },
    ])

    processor = concat(
      local.write_to_kafka.processor, local.is_msk ? local.poll_msk.processor : local.poll_external, local.find_bucket, local.keep_failed,
      local.connect_to_dynamodb, local.use_database, local.call_scorer, local.encrypt,
      [{ sid = "BlocksAndCounters", actions = ["dynamodb:PutItem", "dynamodb:Query", "dynamodb:UpdateItem"], resources = local.access_table, condition = null }],
      var.dedup_store == "dynamodb" ? [{ sid = "Claims", actions = ["dynamodb:BatchGetItem", "dynamodb:PartiQLInsert", "dynamodb:PutItem"], resources = local.dedup_table, condition = null }] : [],
      [{ sid = "Quarantine", actions = ["s3:GetObject", "s3:PutObject"], resources = [local.prefix.quarantine], condition = null }],
    )

    scorer = []

    archiver = concat(
      local.is_msk ? local.poll_msk.archiver : local.poll_external, local.keep_failed, local.encrypt,
      [
        { sid = "WriteObjects", actions = ["s3:GetObject", "s3:PutObject"], resources = [local.prefix.raw, local.prefix.outcomes], condition = null },
        { sid = "ReadQuarantine", actions = ["s3:GetObject"], resources = [local.prefix.quarantine], condition = null },
        { sid = "FindBucket", actions = ["s3:ListBucket"], resources = local.bucket, condition = null },
      ],
    )

    query = concat(local.connect_to_dynamodb, local.read_database, local.read_outcomes, local.call_operators, local.read_key.Console, [
      { sid = "KeysLimitsAndMarks", actions = ["dynamodb:GetItem", "dynamodb:Query", "dynamodb:UpdateItem"], resources = local.access_table, condition = null },
    ])

    redriver = concat(
      local.write_to_kafka.redriver, local.connect_to_dynamodb, local.encrypt,
      local.is_msk ? [{ sid = "ReadLetters", actions = ["kafka-cluster:DescribeTopic", "kafka-cluster:ReadData"], resources = [local.topic["dead-letter-events"]], condition = null }] : [],
      [
        { sid = "Marks", actions = ["dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:Query"], resources = local.access_table,
        condition = { "ForAllValues:StringLike" = { "dynamodb:LeadingKeys" = "redrive*" } } },
        { sid = "ParkLetters", actions = ["s3:GetObject", "s3:PutObject"], resources = [local.prefix.parked, local.prefix.quarantine], condition = null },
        { sid = "ReadFailedBatches", actions = ["s3:GetObject"], resources = [local.prefix["aws/lambda"]], condition = null },
        { sid = "NoteDeliveries", actions = ["s3:PutObject"], resources = [local.prefix.delivered], condition = null },
        { sid = "DeliverFailedBatches", actions = ["lambda:InvokeFunction"], resources = local.delivered_to, condition = null },
        { sid = "FindBucket", actions = ["s3:ListBucket"], resources = local.bucket, condition = null },
      ],
    )

    replayer = concat(local.use_database, local.call_scorer, local.encrypt, [
      { sid = "ReadArchive", actions = ["s3:GetObject"], resources = [local.prefix.raw, local.prefix.outcomes], condition = null },
      { sid = "ListArchive", actions = ["s3:ListBucket"], resources = local.bucket, condition = null },
    ])

    rescorer = concat(local.write_to_kafka.rescorer, local.use_database, local.call_scorer)

    # It asks where raw-events ends, and reads no record.
    aggregator = concat(
      local.is_msk ? concat(local.find_brokers, local.connect_to_msk, [
        { sid = "FindEnd", actions = ["kafka-cluster:DescribeTopic"], resources = [local.topic["raw-events"]], condition = null },
      ]) : local.read_kafka_secret,
      local.use_database,
    )

    notifier = concat(
      local.is_msk ? local.poll_msk.notifier : local.poll_external, local.find_bucket, local.keep_failed, local.use_database, local.read_key.Webhook,
    )

    maintainer = concat(
      local.connect_to_dynamodb, local.use_database_own, local.read_key.Webhook,
      var.dedup_store == "dynamodb" ? [{ sid = "LookAtClaims", actions = ["dynamodb:BatchGetItem"], resources = local.dedup_table, condition = null }] : [],
      [{ sid = "KeysAndBlocks", actions = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"], resources = local.access_table, condition = null }],
      local.is_msk ? concat(local.find_brokers, local.connect_to_msk, [
        { sid = "DescribeKafka", actions = ["kafka-cluster:DescribeCluster"], resources = [module.stream.cluster_arn], condition = null },
        { sid = "MakeTopics", actions = ["kafka-cluster:AlterTopic", "kafka-cluster:CreateTopic", "kafka-cluster:DescribeTopic"], resources = local.topics, condition = null },
        { sid = "LookAtGroups", actions = ["kafka-cluster:DescribeGroup"], resources = [for group in flatten(values(local.polls)[*].groups) : "${module.stream.group_arn_prefix}/${group}"], condition = null },
        { sid = "ReadRecords", actions = ["kafka-cluster:ReadData"], resources = local.topics, condition = null },
      ]) : local.read_kafka_secret,
    )
  }
}
