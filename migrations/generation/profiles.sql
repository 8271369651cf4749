-- One row a profile, as of its last event. Names, consents and transcripts are sealed. Of
-- an erased one they are gone, and its files with them.
CREATE TABLE profiles (
    id            text COLLATE "C" PRIMARY KEY,
    tenant        text COLLATE "C" NOT NULL,
    version       bigint NOT NULL,
    last_event_id text COLLATE "C" NOT NULL,
    status        text NOT NULL, -- active, archived, erasing, erased
    name          jsonb,
    consent       jsonb,  -- {by, statement}; null: none is in force
    portrait      jsonb,  -- {artifact, fidelity, engine, from_job}
    voice         jsonb,
    lora          jsonb,
    transcript    jsonb,  -- of the voice
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    consent_withdrawn_at timestamptz, -- unless another one was recorded since
    archived_at   timestamptz,
    erased_at     timestamptz,        -- when it was asked for
    erasure_completed_at timestamptz  -- when nothing was left
);

-- Once the table is filled:
CREATE INDEX profiles_page ON profiles (tenant, created_at DESC, id DESC);
