-- Whom tenants want to be told about outcomes. Secrets are not here: they are made from a key, the id and the version.
CREATE TABLE webhook_endpoints (
    id             text COLLATE "C" PRIMARY KEY,
    tenant         text COLLATE "C" NOT NULL,
    url            text NOT NULL,
    outcomes       text[] NOT NULL,
    -- Empty: all.
    event_types    text[] NOT NULL,
    secret_version integer NOT NULL,
    -- Until when the secret before signs too.
    previous_until timestamptz,
    -- Why it is told nothing; NULL if it is told.
    paused         text,
    created_at     timestamptz NOT NULL
);

-- What an endpoint did not get at the first attempt. What it gets is removed.
CREATE TABLE webhook_deliveries (
    endpoint  text COLLATE "C" NOT NULL REFERENCES webhook_endpoints ON DELETE CASCADE,
    message   text COLLATE "C" NOT NULL,
    body      bytea NOT NULL,
    attempts  integer NOT NULL,
    -- NULL: it failed at every attempt, and is kept for operators.
    due_at    timestamptz,
    failed_at timestamptz NOT NULL,
    error     text NOT NULL,
    PRIMARY KEY (endpoint, message)
);

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (failed_at) WHERE due_at IS NULL;
