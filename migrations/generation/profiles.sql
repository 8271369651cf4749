-- One row a profile, as of its last event. Names, consents and transcripts are sealed.
CREATE TABLE profiles (
    id            text COLLATE "C" PRIMARY KEY,
    tenant        text COLLATE "C" NOT NULL,
    version       bigint NOT NULL,
    last_event_id text COLLATE "C" NOT NULL,
    name          jsonb,
    consent       jsonb,  -- {by, statement}
    portrait      jsonb,  -- {artifact, fidelity, engine, from_job}
    voice         jsonb,
    lora          jsonb,
    transcript    jsonb,  -- of the voice
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
);

-- Once the table is filled:
CREATE INDEX profiles_page ON profiles (tenant, created_at DESC, id DESC);
