-- One row a job, as of its last event. Ids compare bytewise, so that pages and dumps have one order everywhere.
CREATE TABLE jobs (
    id            text COLLATE "C" PRIMARY KEY,
    tenant        text COLLATE "C" NOT NULL,
    version       bigint NOT NULL,           -- aggregate_version of the last event
    last_event_id text COLLATE "C" NOT NULL, -- its event_id: what the next event continues
    status        text NOT NULL,             -- scheduled queued running waiting_approval succeeded failed cancelled rejected
    cancelling    boolean NOT NULL,          -- asked to end, not ended yet
    priority      text NOT NULL,             -- interactive batch
    pipeline      text,                      -- workflow id
    variant       text,
    mode          text,
    profile_id    text COLLATE "C",
    parent_job_id text COLLATE "C",          -- of a retry or re-run
    labels        jsonb,                     -- sorted list of words
    not_before    timestamptz,
    created_at    timestamptz NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz,
    progress      double precision NOT NULL, -- 0 to 1, never falling
    graph         jsonb,
    request       jsonb,                     -- free text sealed
    approval      jsonb,                     -- {stage, requested_at, expires_at, script sealed, outcome, decided_at, actor, edit and reason sealed}
    error         jsonb,                     -- {stage, class, message, hint, log_tail sealed, reasons}
    outputs       jsonb,
    partition     integer NOT NULL,          -- of jobs.events
    first_offset  bigint NOT NULL,
    last_offset   bigint NOT NULL
);

-- Once the table is filled:
CREATE INDEX jobs_page ON jobs (tenant, created_at DESC, id DESC);
CREATE INDEX jobs_page_by_status ON jobs (tenant, status, created_at DESC, id DESC);
CREATE INDEX jobs_page_by_variant ON jobs (tenant, variant, mode, created_at DESC, id DESC);
CREATE INDEX jobs_page_by_mode ON jobs (tenant, mode, created_at DESC, id DESC);
CREATE INDEX jobs_page_by_profile ON jobs (tenant, profile_id, created_at DESC, id DESC) WHERE profile_id IS NOT NULL;
CREATE INDEX jobs_page_by_parent ON jobs (tenant, parent_job_id, created_at DESC, id DESC) WHERE parent_job_id IS NOT NULL;
CREATE INDEX jobs_labels ON jobs USING gin (labels jsonb_path_ops) WHERE labels IS NOT NULL;
