variable "name" {
  description = "Prefix of all names, such as forebay-dev."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,30}[a-z0-9]$", var.name))
    error_message = "name must have 3 to 32 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen."
  }
}

variable "packages_dir" {
  description = "Folder of the zips that `make package` made."
  type        = string
}

variable "architecture" {
  description = "arm64 or x86_64, as the zips were built."
  type        = string
  default     = "arm64"

  validation {
    condition     = contains(["arm64", "x86_64"], var.architecture)
    error_message = "architecture must be arm64 or x86_64."
  }
}

variable "alarm_email" {
  description = "Where alarms are sent; AWS asks this address to confirm. Null: subscribe to the topic yourself."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_email == null || can(regex("^[^@ ]+@[^@ ]+$", var.alarm_email))
    error_message = "alarm_email must be an e-mail address or null."
  }
}

variable "network" {
  description = <<-TEXT
    The VPC: addresses of the one that is made, or one that exists.
    nat: none, single or per_zone, in the VPC that is made. Only what lies outside AWS needs it. Without it, interface endpoints are
    made.
    existing: has_nat says whether its private subnets have a way out. endpoints names the services whose endpoints it has already
    (s3, dynamodb, lambda, kafka, sts, secretsmanager, xray): they are not made a second time, which AWS refuses.
    endpoint_zones: in how many zones each endpoint has an address. One costs a third; that zone is then needed.
    flow_log_days: how long refused connections are logged; 0 means not at all.
  TEXT
  type = object({
    cidr           = optional(string, "10.60.0.0/16")
    nat            = optional(string, "none")
    endpoint_zones = optional(number, 3)
    flow_log_days  = optional(number, 14)
    existing = optional(object({
      vpc_id          = string
      cidr            = string
      subnet_ids      = list(string)
      route_table_ids = list(string)
      has_nat         = optional(bool, false)
      endpoints       = optional(set(string), [])
    }))
  })
  default = {}

  validation {
    condition     = can(cidrhost(var.network.cidr, 0)) && try(tonumber(split("/", var.network.cidr)[1]) <= 20, false)
    error_message = "network.cidr must be a network such as 10.60.0.0/16, with at most 20 bits of prefix."
  }

  validation {
    condition     = contains(["none", "single", "per_zone"], var.network.nat)
    error_message = "network.nat must be none, single or per_zone."
  }

  validation {
    condition     = contains([1, 2, 3], var.network.endpoint_zones)
    error_message = "network.endpoint_zones must be 1, 2 or 3."
  }

  validation {
    condition     = contains([0, 1, 3, 5, 7, 14, 30, 60, 90, 180, 365], var.network.flow_log_days)
    error_message = "network.flow_log_days must be 0 or a retention that CloudWatch has: 1, 3, 5, 7, 14, 30, 60, 90, 180, 365."
  }

  validation {
    condition     = var.network.existing == null || try(length(var.network.existing.subnet_ids) == 3, false)
    error_message = "network.existing.subnet_ids must be three private subnets, each in another zone."
  }

  validation {
    condition     = var.network.existing == null || try(length(var.network.existing.route_table_ids) > 0 || length(setsubtract(["s3", "dynamodb"], var.network.existing.endpoints)) == 0, false)
    error_message = "network.existing.route_table_ids must be the route tables of the subnets: the endpoints of S3 and DynamoDB are entered there. Only if network.existing.endpoints has both may there be none."
  }

  validation {
    condition     = var.network.existing == null || var.network.nat == "none"
    error_message = "network.nat makes gateways in a VPC that is made. Of one that exists, network.existing.has_nat says whether it has a way out."
  }

  validation {
    condition     = var.network.existing == null || try(length(setsubtract(var.network.existing.endpoints, ["dynamodb", "kafka", "lambda", "s3", "secretsmanager", "sts", "xray"])) == 0, false)
    error_message = "network.existing.endpoints has a service that nothing here needs: use dynamodb, kafka, lambda, s3, secretsmanager, sts or xray."
  }
}

variable "stream" {
  description = <<-TEXT
    Kafka.
    kind: msk_express or msk_standard make a cluster; existing_msk uses one with IAM; external uses any other Kafka with TLS
    and a login. sasl_mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. The secret is a JSON object with username and password.
    Functions reach its brokers in one of three ways: through NAT; inside_vpc, if they are in the VPC already (peering, a transit
    gateway, an endpoint of yours); or private_link, which makes an endpoint to the vendor's service and a private zone that answers
    for domain and every name below it.
    broker: log_days 0 means no logs of the brokers.
  TEXT
  type = object({
    kind = string
    broker = optional(object({
      instance_type = optional(string)
      count         = optional(number, 3)
      storage_gb    = optional(number, 100)
      kafka_version = optional(string, "3.9.x")
      log_days      = optional(number, 14)
    }), {})
    existing_msk = optional(object({
      cluster_arn       = string
      security_group_id = string
    }))
    external = optional(object({
      brokers        = list(string)
      sasl_mechanism = optional(string, "SCRAM-SHA-512")
      sasl_username  = string
      secret_arn     = string
      inside_vpc     = optional(bool, false)
      private_link = optional(object({
        service_name = string
        domain       = string
      }))
    }))
  })

  validation {
    condition     = contains(["msk_express", "msk_standard", "existing_msk", "external"], var.stream.kind)
    error_message = "stream.kind must be msk_express, msk_standard, existing_msk or external."
  }

  validation {
    condition     = var.stream.broker.count % 3 == 0
    error_message = "stream.broker.count must be a multiple of 3: as many brokers in each of the three zones."
  }

  validation {
    condition     = (var.stream.kind == "existing_msk") == (var.stream.existing_msk != null)
    error_message = "stream.existing_msk belongs to stream.kind = \"existing_msk\": set both or neither."
  }

  validation {
    condition     = var.stream.existing_msk == null || can(regex("^arn:aws[a-z-]*:kafka:[a-z0-9-]+:[0-9]{12}:cluster/[^/]+/.+$", var.stream.existing_msk.cluster_arn))
    error_message = "stream.existing_msk.cluster_arn must be the ARN of a cluster: arn:aws:kafka:REGION:ACCOUNT:cluster/NAME/UUID."
  }

  validation {
    condition     = (var.stream.kind == "external") == (var.stream.external != null)
    error_message = "stream.external belongs to stream.kind = \"external\": set both or neither."
  }

  validation {
    condition     = var.stream.external == null || try(length(var.stream.external.brokers) > 0 && alltrue([for broker in var.stream.external.brokers : can(regex("^[^:/ ,]+:[0-9]{1,5}$", broker))]), false)
    error_message = "stream.external.brokers must be a list of host:port."
  }

  validation {
    condition     = var.stream.external == null || try(contains(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], var.stream.external.sasl_mechanism), false)
    error_message = "stream.external.sasl_mechanism must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."
  }

  validation {
    condition     = var.stream.external == null || can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^:]+$", var.stream.external.secret_arn))
    error_message = "stream.external.secret_arn must be the ARN of a secret in Secrets Manager, without a member at its end."
  }

  validation {
    condition     = var.stream.external == null || try(var.stream.external.inside_vpc || var.stream.external.private_link != null || (var.network.existing == null ? var.network.nat != "none" : var.network.existing.has_nat), false)
    error_message = "The brokers of stream.external lie outside of the VPC, and ingest, processor, redriver, rescorer, aggregator and maintainer have no way out: set stream.external.private_link, network.nat (or network.existing.has_nat), or stream.external.inside_vpc if the brokers can be reached inside."
  }

  validation {
    condition     = try(var.stream.external.private_link, null) == null || try(!var.stream.external.inside_vpc, false)
    error_message = "stream.external: set inside_vpc or private_link, which makes the endpoint, and not both."
  }

  validation {
    condition     = try(var.stream.external.private_link, null) == null || can(regex("^com\\.amazonaws\\.vpce\\.[a-z0-9-]+\\.vpce-svc-[0-9a-f]+$", var.stream.external.private_link.service_name))
    error_message = "stream.external.private_link.service_name must be what the vendor shows: com.amazonaws.vpce.REGION.vpce-svc-ID."
  }

  validation {
    condition     = try(var.stream.external.private_link, null) == null || try(alltrue([for broker in var.stream.external.brokers : endswith(split(":", broker)[0], ".${var.stream.external.private_link.domain}")]), false)
    error_message = "stream.external.private_link.domain must be the end of every broker's name: what is not below it is not reached through the endpoint."
  }

  validation {
    condition     = var.stream.kind != "existing_msk" || var.network.existing != null
    error_message = "An existing cluster of MSK is in a VPC that exists: set network.existing to that VPC."
  }
}

variable "database" {
  description = <<-TEXT
    Postgres on RDS.
    proxy: RDS Proxy in front, for many concurrent instances of the functions.
    login: secret (the managed secret of the owner) or iam (a token). With iam and no proxy, the user forebay_functions must
    have been made in the database: see infra/README.md.
    storage_gb grows up to max_storage_gb by itself and never shrinks. engine_version: 14 or later.
    read_replica: a second server of the same class, which query reads in place of the first (docs/postgres.md).
  TEXT
  type = object({
    instance_class      = optional(string, "db.t4g.micro")
    storage_gb          = optional(number, 20)
    max_storage_gb      = optional(number, 100)
    engine_version      = optional(string, "16")
    multi_az            = optional(bool, false)
    proxy               = optional(bool, false)
    login               = optional(string, "secret")
    backup_days         = optional(number, 7)
    deletion_protection = optional(bool, true)
    log_days            = optional(number, 14)
    read_replica        = optional(bool, false)
  })
  default = {}

  validation {
    condition     = contains(["secret", "iam"], var.database.login)
    error_message = "database.login must be secret or iam."
  }

  validation {
    condition     = var.database.storage_gb >= 20 && var.database.max_storage_gb > var.database.storage_gb
    error_message = "database.storage_gb must be at least 20, and less than database.max_storage_gb."
  }

  validation {
    condition     = var.database.backup_days >= 1 && var.database.backup_days <= 35
    error_message = "database.backup_days must be 1 to 35: without backups there is no way back to a point in time."
  }

  validation {
    condition     = can(regex("^(1[4-9]|[2-9][0-9])(\\.[0-9]+)?$", var.database.engine_version))
    error_message = "database.engine_version must be a version of PostgreSQL from 14 on, such as 16 or 16.4."
  }

  validation {
    condition     = !(var.database.read_replica && var.database.proxy)
    error_message = "database.read_replica does not go with database.proxy: the replica is not behind the proxy, and query takes the user, the pooler mode and the authority of certificates from the primary's settings, which are then the proxy's. Set one of them."
  }
}

variable "dedup_store" {
  description = "Where claims are kept: dynamodb, or postgres, which saves DynamoDB's price per event."
  type        = string
  default     = "dynamodb"

  validation {
    condition     = contains(["dynamodb", "postgres"], var.dedup_store)
    error_message = "dedup_store must be dynamodb or postgres."
  }
}

variable "archive" {
  description = <<-TEXT
    The bucket. retention_days: after how many days objects expire, by prefix. noncurrent_days: how long an overwritten or
    deleted object can be restored. kms_key_arn: a key of yours; null means S3's keys, which cost nothing. force_destroy: whether
    destroying deletes the objects, too.
  TEXT
  type = object({
    bucket          = optional(string)
    noncurrent_days = optional(number, 7)
    kms_key_arn     = optional(string)
    force_destroy   = optional(bool, false)
    retention_days = optional(object({
      raw        = optional(number, 30)
      outcomes   = optional(number, 90)
      quarantine = optional(number, 365)
      parked     = optional(number, 365)
    }), {})
  })
  default = {}

  validation {
    condition     = alltrue([for days in values(var.archive.retention_days) : days >= 1]) && var.archive.noncurrent_days >= 1
    error_message = "archive.retention_days and archive.noncurrent_days must be 1 or more."
  }

  validation {
    condition     = var.archive.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.archive.kms_key_arn))
    error_message = "archive.kms_key_arn must be the ARN of a key (not of an alias) or null."
  }
}

variable "archive_replica_arn" {
  description = "ARN of a bucket, in another region, that gets a copy of every new object. The roots make one with archive_replica_region."
  type        = string
  default     = null

  validation {
    condition     = var.archive_replica_arn == null || can(regex("^arn:aws[a-z-]*:s3:::[a-z0-9.-]+$", var.archive_replica_arn))
    error_message = "archive_replica_arn must be the ARN of a bucket: arn:aws:s3:::NAME."
  }

  validation {
    condition     = var.archive_replica_arn == null || var.archive.kms_key_arn == null
    error_message = "A copy of an archive with archive.kms_key_arn needs a key in the other region, too, and that is not offered."
  }
}

variable "lake" {
  description = <<-TEXT
    The archive as tables of Athena (docs/archive-queries.md); null means none, {} means with the defaults.
    scan_limit_gb: what one query may scan. result_days: after how many days results expire.
  TEXT
  type = object({
    scan_limit_gb = optional(number, 10)
    result_days   = optional(number, 7)
  })
  default = null

  validation {
    condition     = var.lake == null || try(var.lake.scan_limit_gb >= 1 && var.lake.result_days >= 1, false)
    error_message = "lake.scan_limit_gb and lake.result_days must be 1 or more."
  }
}

variable "mappings" {
  description = <<-TEXT
    The event source mappings of processor, archiver-raw and archiver-outcomes, and with webhooks of notifier.
    mode: on_demand, or provisioned (pollers that cost by the hour and start at once).
    batch_response: whole, or partial in provisioned mode. It sets BATCH_RESPONSE of the archiver and ReportBatchItemFailures
    of its mappings together. The processor and the notifier always fail as a whole.
    keep_failed: in provisioned mode, whether a batch that failed 10,000 times, and a record above the 6 MB of an event, is put
    into the archive's bucket and passed over; the redriver delivers it from there. Otherwise such a batch is sent again for
    ever, and such a record is lost.
  TEXT
  type = object({
    mode           = optional(string, "on_demand")
    batch_response = optional(string, "whole")
    keep_failed    = optional(bool, false)
    processor = optional(object({
      batch_size = optional(number, 500)
      window_sec = optional(number, 1)
      pollers    = optional(object({ minimum = number, maximum = number }), { minimum = 1, maximum = 6 })
    }), {})
    archiver = optional(object({
      batch_size = optional(number, 5000)
      window_sec = optional(number, 60)
      pollers    = optional(object({ minimum = number, maximum = number }), { minimum = 1, maximum = 2 })
    }), {})
    notifier = optional(object({
      batch_size = optional(number, 100)
      window_sec = optional(number, 1)
      pollers    = optional(object({ minimum = number, maximum = number }), { minimum = 1, maximum = 2 })
    }), {})
  })
  default = {}

  validation {
    condition     = contains(["on_demand", "provisioned"], var.mappings.mode)
    error_message = "mappings.mode must be on_demand or provisioned."
  }

  validation {
    condition     = contains(["whole", "partial"], var.mappings.batch_response)
    error_message = "mappings.batch_response must be whole or partial."
  }

  validation {
    condition     = var.mappings.batch_response == "whole" || var.mappings.mode == "provisioned"
    error_message = "mappings.batch_response = \"partial\" needs mappings.mode = \"provisioned\": an on-demand mapping takes a partial answer for success, and the records would be lost."
  }

  validation {
    condition     = !var.mappings.keep_failed || var.mappings.mode == "provisioned"
    error_message = "mappings.keep_failed needs mappings.mode = \"provisioned\": only then can the number of attempts be set, and AWS would give up after 10."
  }

  validation {
    condition     = alltrue([for mapping in [var.mappings.processor, var.mappings.archiver, var.mappings.notifier] : mapping.batch_size >= 1 && mapping.batch_size <= 10000 && mapping.window_sec >= 0 && mapping.window_sec <= 300])
    error_message = "mappings: batch_size must be 1 to 10000, window_sec 0 to 300."
  }

  validation {
    condition     = var.mappings.archiver.batch_size >= 100 && var.mappings.archiver.window_sec >= 5
    error_message = "mappings.archiver: batch_size must be at least 100 and window_sec at least 5, or objects in S3 are single records, and each costs a request."
  }

  validation {
    condition     = alltrue([for mapping in [var.mappings.processor, var.mappings.archiver, var.mappings.notifier] : mapping.pollers.minimum >= 1 && mapping.pollers.minimum <= mapping.pollers.maximum && mapping.pollers.minimum <= 200 && mapping.pollers.maximum <= 2000])
    error_message = "mappings: pollers.minimum must be 1 to 200, pollers.maximum not less than it and at most 2000."
  }
}

variable "functions" {
  description = "Other memory, timeouts or concurrency than those of functions.tf, by function. reserved_concurrency -1 means none."
  type = map(object({
    memory_mb            = optional(number)
    timeout_sec          = optional(number)
    reserved_concurrency = optional(number)
  }))
  default = {}

  validation {
    condition     = alltrue([for function in keys(var.functions) : contains(["aggregator", "archiver", "ingest", "maintainer", "notifier", "processor", "query", "redriver", "replayer", "rescorer", "scorer"], function)])
    error_message = "functions has a name that is no function: use aggregator, archiver, ingest, maintainer, notifier, processor, query, redriver, replayer, rescorer or scorer."
  }

  validation {
    condition     = alltrue([for function in values(var.functions) : try(function.memory_mb >= 128 && function.memory_mb <= 10240, function.memory_mb == null)])
    error_message = "functions: memory_mb must be 128 to 10240."
  }

  validation {
    condition = alltrue([for name, function in var.functions :
      function.timeout_sec == null ? true : function.timeout_sec >= 1 && function.timeout_sec <= (contains(["archiver", "notifier", "processor"], name) ? 840 : contains(["ingest", "query"], name) ? 29 : 900)
    ])
    error_message = "functions: timeout_sec must be at most 840 for archiver, notifier and processor (a limit of event source mappings), 29 for ingest and query (API Gateway waits 30 seconds), and 900 for the others."
  }
}

variable "reserve_concurrency" {
  description = "Whether functions that must not run often at a time get a reserved concurrency. An account with a limit of less than about 120 refuses it."
  type        = bool
  default     = true
}

variable "settings" {
  description = "Settings of the functions, such as FRAUD_THRESHOLD. Each goes to every function that reads it, so that they agree."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.settings), ["DATABASE_READ_URL", "DATABASE_URL", "DB_PASSWORD", "KAFKA_SASL_PASSWORD", "WEBHOOK_KEY", "CONSOLE_KEY"])) == 0
    error_message = "settings must have no secret, because they are stored in Terraform's state: use DATABASE_READ_URL_SECRET_ARN, DATABASE_URL_SECRET_ARN, DB_PASSWORD_SECRET_ARN or KAFKA_SASL_PASSWORD_SECRET_ARN, and webhooks and query.console for their keys."
  }

  validation {
    condition     = !contains(keys(var.settings), "BATCH_RESPONSE")
    error_message = "settings must not have BATCH_RESPONSE: set mappings.batch_response, which changes the mappings with it."
  }

  validation {
    condition     = !contains(keys(var.settings), "DEDUP_STORE")
    error_message = "settings must not have DEDUP_STORE: set dedup_store, which also makes or leaves out the table."
  }

  validation {
    condition     = !contains(keys(var.settings), "STREAM")
    error_message = "settings must not have STREAM: set query.stream, which also lets query read Kafka."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), ["CONSOLE", "CONSOLE_KEY_FILE", "CONSOLE_KEY_SECRET_ARN", "MAINTAINER_FUNCTION", "MAINTAINER_URL", "REDRIVER_FUNCTION", "REDRIVER_URL"])) == 0
    error_message = "settings must not have CONSOLE, its key, or what it calls (MAINTAINER_FUNCTION, REDRIVER_FUNCTION and their URLs): set query.console, which also makes its routes and lets query read the key and invoke the two."
  }

  validation {
    condition     = !contains(keys(var.settings), "ACCESS_STORE")
    error_message = "settings must not have ACCESS_STORE: on AWS, keys and blocks are in DynamoDB, so that an address can be blocked while Postgres is down."
  }

  validation {
    condition     = alltrue([for name in keys(var.settings) : !startswith(name, "AWS_ENDPOINT_URL") && !contains(["DB_HOST", "DB_READ_HOST", "KAFKA_BROKERS", "MSK_CLUSTER_ARN"], name)])
    error_message = "settings must not have DB_HOST, DB_READ_HOST, KAFKA_BROKERS, MSK_CLUSTER_ARN or an endpoint: what a function connects to follows from stream, database and network, or it could have no way there."
  }

  validation {
    condition     = length(setintersection(keys(var.settings), ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_SAMPLER_ARG", "TRACES", "TRACE_USER_ID"])) == 0
    error_message = "settings must not have TRACES, TRACE_USER_ID, OTEL_TRACES_SAMPLER_ARG or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: set traces, which also makes the way there and the permission."
  }
}

variable "traces" {
  description = <<-TEXT
    Traces of the functions; docs/traces.md says what they show and cost.
    to: off; xray, which is X-Ray's endpoint in this region and needs CloudWatch's Transaction Search in the account; or otlp, which is a
    collector at endpoint, a whole URL such as https://otlp.example.com/v1/traces.
    inside_vpc: the collector is in the VPC. Scorer and archiver then join the VPC, because nothing else leads there.
    ratio: share of new traces that are kept, 0 to 1; what fails is always kept. user_id: none, hashed or raw.
  TEXT
  type = object({
    to         = optional(string, "off")
    endpoint   = optional(string)
    inside_vpc = optional(bool, false)
    ratio      = optional(number, 0.01)
    user_id    = optional(string, "none")
  })
  default = {}

  validation {
    condition     = contains(["off", "otlp", "xray"], var.traces.to)
    error_message = "traces.to must be off, otlp or xray."
  }

  validation {
    condition     = (var.traces.to == "otlp") == (var.traces.endpoint != null)
    error_message = "traces.endpoint belongs to traces.to = \"otlp\": set both or neither. X-Ray's follows from the region."
  }

  validation {
    condition     = var.traces.endpoint == null || can(regex("^https?://[^/:@ ]+(:[0-9]{1,5})?/", var.traces.endpoint))
    error_message = "traces.endpoint must be a whole URL with its path, such as http://collector.internal:4318/v1/traces."
  }

  validation {
    condition     = var.traces.endpoint == null || var.traces.inside_vpc || can(regex("^https://[^/:]+(:443)?/", var.traces.endpoint))
    error_message = "traces.endpoint of a collector outside of the VPC must be https, on port 443: traces would be readable on the way, and functions in the VPC reach no other port. If it is in the VPC, set traces.inside_vpc."
  }

  validation {
    condition     = var.traces.to != "otlp" || try(var.traces.inside_vpc || (var.network.existing == null ? var.network.nat != "none" : var.network.existing.has_nat), false)
    error_message = "The collector of traces.endpoint lies outside of the VPC, and the functions in it have no way out: set network.nat (or network.existing.has_nat), or traces.inside_vpc if it can be reached inside."
  }

  validation {
    condition     = var.traces.to == "otlp" || !var.traces.inside_vpc
    error_message = "traces.inside_vpc is about the collector of traces.to = \"otlp\"."
  }

  validation {
    condition     = var.traces.ratio >= 0 && var.traces.ratio <= 1
    error_message = "traces.ratio must be 0 to 1: 0.01 keeps one new trace in a hundred."
  }

  validation {
    condition     = contains(["none", "hashed", "raw"], var.traces.user_id)
    error_message = "traces.user_id must be none, hashed or raw."
  }
}

variable "webhooks" {
  description = <<-TEXT
    Webhooks (docs/webhooks.md): the function notifier, its trigger and its schedule; null means none.
    key_secret_arn: a secret in Secrets Manager whose text, at least 32 characters, is the key of which every endpoint's signing secret is
    made. You make it, so that it is not in the state: infra/README.md says how.
    kms_key_arn: the key of KMS with which that secret is encrypted, if it is one of yours.
  TEXT
  type = object({
    key_secret_arn = string
    kms_key_arn    = optional(string)
  })
  default = null

  validation {
    condition     = var.webhooks == null || can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^:]+$", var.webhooks.key_secret_arn))
    error_message = "webhooks.key_secret_arn must be the ARN of a secret in Secrets Manager, without a member at its end."
  }

  validation {
    condition     = try(var.webhooks.kms_key_arn, null) == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.webhooks.kms_key_arn))
    error_message = "webhooks.kms_key_arn must be the ARN of a key (not of an alias) or null."
  }

  validation {
    condition     = var.webhooks == null || try(var.network.existing == null ? var.network.nat != "none" : var.network.existing.has_nat, false)
    error_message = "With webhooks, the notifier calls the endpoints of tenants on the Internet, and the VPC has no way out: set network.nat (or network.existing.has_nat), or webhooks to null."
  }
}

variable "query" {
  description = <<-TEXT
    What query answers besides look-ups (docs/deploy-aws.md).
    stream: GET /stream, the outcomes of a tenant as they happen. query then reads processed-events.
    console: pages for operators under /console; null means none. query may then invoke maintainer and redriver. key_secret_arn: a secret
    in Secrets Manager whose text, at least 32 characters, signs sessions. You make it, so that it is not in the state: infra/README.md says
    how. kms_key_arn: the key of KMS with which that secret is encrypted, if it is one of yours.
  TEXT
  type = object({
    stream = optional(bool, false)
    console = optional(object({
      key_secret_arn = string
      kms_key_arn    = optional(string)
    }))
  })
  default = {}

  validation {
    condition     = var.query.console == null || can(regex("^arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^:]+$", var.query.console.key_secret_arn))
    error_message = "query.console.key_secret_arn must be the ARN of a secret in Secrets Manager, without a member at its end."
  }

  validation {
    condition     = try(var.query.console.kms_key_arn, null) == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.query.console.kms_key_arn))
    error_message = "query.console.kms_key_arn must be the ARN of a key (not of an alias) or null."
  }
}

variable "front_door" {
  description = "The HTTP API: requests per second and burst for all clients together; a name of yours with its certificate in ACM."
  type = object({
    rate     = optional(number, 1000)
    burst    = optional(number, 2000)
    log_days = optional(number, 14)
    domain = optional(object({
      name            = string
      certificate_arn = string
    }))
  })
  default = {}

  validation {
    condition     = var.front_door.rate >= 1 && var.front_door.burst >= 1
    error_message = "front_door.rate and front_door.burst must be at least 1."
  }

  validation {
    condition     = var.front_door.domain == null || can(regex("^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/.+$", var.front_door.domain.certificate_arn))
    error_message = "front_door.domain.certificate_arn must be the ARN of a certificate in ACM, in the region of the API."
  }
}

variable "log_days" {
  description = "How long the functions' logs are kept, in days."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731], var.log_days)
    error_message = "log_days must be a retention that CloudWatch has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731."
  }
}

variable "rejected_per_5_min" {
  description = "How many events with a schema violation in five minutes ring the alarm of ingest. Null: as many as infra/observe/alerts.yaml says."
  type        = number
  default     = null
}

variable "live_versions" {
  description = <<-TEXT
    Versions at which the aliases of functions stay, by function, while this apply publishes new ones. infra/ci/canary.py finds them
    and moves the aliases afterwards. Of a function that is not in it, the new version is live at once.
  TEXT
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for version in values(var.live_versions) : can(regex("^[0-9]+$", version))])
    error_message = "live_versions must have the number of a published version for each function."
  }
}
