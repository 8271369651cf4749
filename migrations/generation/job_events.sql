-- The audit trail: every applied event of jobs.events, with the columns of its envelope.
CREATE TABLE job_events (
    partition       integer NOT NULL,
    log_offset      bigint NOT NULL,
    job_id          text COLLATE "C" NOT NULL,
    version         bigint NOT NULL,
    event_id        text COLLATE "C" NOT NULL,
    prev_event_id   text COLLATE "C",
    type            text NOT NULL,
    schema_version  integer NOT NULL,
    occurred_at     timestamptz NOT NULL,
    occurred_ns     integer NOT NULL, -- the nanoseconds below the microsecond of occurred_at
    command_id      text,
    causation_id    text,
    correlation_id  text,
    tenant          text COLLATE "C" NOT NULL,
    actor           text,
    stage           text,
    task            text,
    attempt         integer,
    state           text,
    variant         text,
    lane            text,
    worker          text,
    model           text,
    duration_ms     bigint,
    error_class     text,
    artifact_uri    text,
    artifact_sha256 text,
    data            jsonb NOT NULL
);

-- Once the table is filled:
ALTER TABLE job_events ADD PRIMARY KEY (partition, log_offset);

-- Unique: no event is ever counted twice.
CREATE UNIQUE INDEX job_events_of_job ON job_events (job_id, version);
