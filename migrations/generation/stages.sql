-- One row a node of a job's graph, as of the job's last event.
CREATE TABLE stages (
    job_id       text COLLATE "C" NOT NULL,
    id           text COLLATE "C" NOT NULL,
    tenant       text COLLATE "C" NOT NULL,
    position     integer NOT NULL,          -- in the graph, from 0, in a topological order
    task         text NOT NULL,
    plane        text NOT NULL,             -- control gpu
    lane         text,
    weight       double precision NOT NULL, -- share of the job's progress
    status       text NOT NULL,             -- pending queued running waiting_approval succeeded failed skipped reused cancelled
    attempt      integer,                   -- of the last try, from 1
    engine       text,
    model        text,
    fidelity     text,                      -- full preview prepared simulated
    worker       text,
    scheduled_at timestamptz,
    started_at   timestamptz,
    finished_at  timestamptz,
    duration_ms  bigint,
    error        jsonb,                     -- {class, message, hint, log_tail sealed} of the last failed try
    notes        jsonb,                     -- list of sentences
    batch        boolean NOT NULL,          -- on its lane's batch topic
    input_hash   text,                      -- names the result
    reused_from  jsonb,                     -- {job_id, stage, input_hash}: where a reused result was made
    PRIMARY KEY (job_id, id)
);
