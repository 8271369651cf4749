-- One row a job, as of its last event. Ids compare bytewise, so that pages and dumps have one order everywhere.
CREATE TABLE jobs (
    id            text COLLATE "C" PRIMARY KEY,
    tenant        text COLLATE "C" NOT NULL,
    version       bigint NOT NULL,           -- aggregate_version of the last event
    last_event_id text COLLATE "C" NOT NULL, -- its event_id: what the next event continues
    status        text NOT NULL,             -- queued running succeeded failed rejected
    pipeline      text,                      -- workflow id
    variant       text,
    mode          text,
    profile_id    text COLLATE "C",
    parent_job_id text COLLATE "C",
    created_at    timestamptz NOT NULL,
    started_at    timestamptz,
    finished_at   timestamptz,
    progress      double precision NOT NULL, -- 0 to 1, never falling
    graph         jsonb,
    request       jsonb,                     -- free text sealed
    error         jsonb,                     -- {stage, class, message, hint, log_tail sealed, reasons}
    outputs       jsonb,
    partition     integer NOT NULL,          -- of jobs.events
    first_offset  bigint NOT NULL,
    last_offset   bigint NOT NULL
);

CREATE INDEX jobs_page ON jobs (tenant, created_at DESC, id DESC);
CREATE INDEX jobs_page_by_status ON jobs (tenant, status, created_at DESC, id DESC);
CREATE INDEX jobs_page_by_profile ON jobs (tenant, profile_id, created_at DESC, id DESC) WHERE profile_id IS NOT NULL;
