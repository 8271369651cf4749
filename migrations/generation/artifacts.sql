-- One row a file that a job registered. A reused file is registered by several jobs.
CREATE TABLE artifacts (
    job_id      text COLLATE "C" NOT NULL,
    id          text COLLATE "C" NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    stage       text COLLATE "C",
    attempt     integer,
    output      text,             -- of the stage's node
    name        text NOT NULL,
    type        text NOT NULL,
    media_type  text NOT NULL,
    uri         text NOT NULL,
    sha256      text NOT NULL,
    size        bigint NOT NULL,  -- bytes
    width       integer,          -- pixels
    height      integer,
    duration_ms bigint,
    engine      text,
    fidelity    text,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (job_id, id)
);

-- Once the table is filled:
CREATE INDEX artifacts_id ON artifacts (id);
