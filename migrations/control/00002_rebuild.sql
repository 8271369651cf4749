-- Generations that are built beside the live one, and may be kept behind it.

-- +goose Up
ALTER TABLE myspinbot.generations DROP CONSTRAINT generations_status_check;
ALTER TABLE myspinbot.generations
    ADD CONSTRAINT generations_status_check CHECK (status IN ('building', 'live', 'kept', 'leaving')), -- leaving: to be dropped
    ADD COLUMN version integer NOT NULL DEFAULT 1,   -- of the program's tables: who makes older ones leaves them alone
    ADD COLUMN copied  text[]  NOT NULL DEFAULT '{}', -- tables that were taken over from the live generation as they were
    ADD COLUMN indexed text[]  NOT NULL DEFAULT '{}'; -- tables whose indexes are made

-- The tables in generations.copied already hold the events before copied_until.
ALTER TABLE myspinbot.checkpoints ADD COLUMN copied_until bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE myspinbot.checkpoints DROP COLUMN copied_until;
DELETE FROM myspinbot.generations WHERE status IN ('kept', 'leaving');
ALTER TABLE myspinbot.generations DROP CONSTRAINT generations_status_check;
ALTER TABLE myspinbot.generations DROP COLUMN version, DROP COLUMN copied, DROP COLUMN indexed,
    ADD CONSTRAINT generations_status_check CHECK (status IN ('building', 'live'));
