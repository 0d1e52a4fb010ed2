-- For deployments without DynamoDB (ACCESS_STORE=postgres): who may send, how much, who is blocked, and what operators did.

CREATE TABLE api_keys (
    hash               bytea PRIMARY KEY,
    tenant             text NOT NULL,
    name               text NOT NULL,
    kind               text NOT NULL,
    scopes             text[] NOT NULL,
    rate_limit_per_min bigint,
    burst              bigint,
    expires_at         timestamptz,
    revoked            boolean NOT NULL
);

CREATE TABLE blocks (
    address text PRIMARY KEY,
    allows  boolean NOT NULL,
    "from"  timestamptz NOT NULL,
    until   timestamptz,
    reason  text NOT NULL
);

-- Limits need not survive a crash of the server: they begin anew after one. So these two write no WAL. They change all the
-- time; with room in its page and no index on what changes, a new version of a row stays beside the old one.
CREATE UNLOGGED TABLE rate_buckets (
    bucket     text PRIMARY KEY,
    -- When the bucket is full again, in microseconds since the epoch.
    full_at    bigint NOT NULL,
    expires_at timestamptz NOT NULL
) WITH (fillfactor = 50);

CREATE UNLOGGED TABLE address_counts (
    address text NOT NULL,
    -- Minutes since the epoch.
    minute  bigint NOT NULL,
    events  bigint NOT NULL,
    PRIMARY KEY (address, minute)
) WITH (fillfactor = 50);

CREATE TABLE redrive_marks (
    origin   text COLLATE "C" NOT NULL,
    attempt  bigint NOT NULL,
    step     text COLLATE "C" NOT NULL,
    run      text NOT NULL,
    at       timestamptz NOT NULL,
    -- Until when a run has the step; NULL once it is done.
    until    timestamptz,
    -- Of the copy, if one was sent.
    position text,
    PRIMARY KEY (origin, attempt, step)
);

CREATE TABLE audit_trail (
    -- What its actions are about, such as `redrive`.
    subject    text COLLATE "C" NOT NULL,
    started_at timestamptz NOT NULL,
    run        text COLLATE "C" NOT NULL,
    action     text NOT NULL,
    by         text,
    state      text NOT NULL,
    request    text NOT NULL,
    result     text NOT NULL,
    PRIMARY KEY (subject, started_at, run)
);
