-- The registry of generations and the checkpoints: everything in the database that is not a projection.

-- +goose Up
CREATE TABLE myspinbot.generations (
    generation integer PRIMARY KEY CHECK (generation > 0), -- its tables are in schema gen_<generation>
    shape      text NOT NULL,                              -- SHA-256 of the SQL that made the tables
    status     text NOT NULL CHECK (status IN ('building', 'live')),
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Readers see one generation.
CREATE UNIQUE INDEX generations_live ON myspinbot.generations (status) WHERE status = 'live';

-- next_offset is the first offset of the partition that is not in the tables. It changes in the
-- transaction that writes the rows, and only from the value that the writer expects.
CREATE TABLE myspinbot.checkpoints (
    generation  integer NOT NULL REFERENCES myspinbot.generations ON DELETE CASCADE,
    topic       text    NOT NULL COLLATE "C",
    partition   integer NOT NULL CHECK (partition >= 0),
    next_offset bigint  NOT NULL CHECK (next_offset >= 0),
    PRIMARY KEY (generation, topic, partition)
);

CREATE VIEW myspinbot.live_checkpoints AS
SELECT c.topic, c.partition, c.next_offset
FROM myspinbot.checkpoints c
JOIN myspinbot.generations g USING (generation)
WHERE g.status = 'live';

-- +goose Down
DROP VIEW myspinbot.live_checkpoints;
DROP TABLE myspinbot.checkpoints;
DROP TABLE myspinbot.generations;
