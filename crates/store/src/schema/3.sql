-- Version 3. Several programs at once: leases that a clock cannot spoil, owners that are known to be dead, and findings
-- that are announced once, also when the sweep that found them was killed.

-- How long a lease or a delay was when it began. A time that is further away than that was set by a clock that was wrong.
-- The defaults are the lease and the longest delay of the programs before.
ALTER TABLE jobs ADD COLUMN lease_seconds BIGINT NOT NULL DEFAULT 120;
ALTER TABLE jobs ADD COLUMN delay_seconds BIGINT NOT NULL DEFAULT 15;

-- The process that has the lease, so that another one on the same host sees whether it lives; see `process.rs`.
ALTER TABLE jobs ADD COLUMN lease_process TEXT;

-- A run that is alive renews its lease, and announces what it found. NULL for runs of versions before, which have ended.
ALTER TABLE runs ADD COLUMN lease_process TEXT;
ALTER TABLE runs ADD COLUMN lease_until BIGINT;
ALTER TABLE runs ADD COLUMN lease_seconds BIGINT;

-- Whether the report that names the thing was written, and the run whose report it is: NULL is the one that found it.
-- What a killed run of a version before found was not announced.
ALTER TABLE sightings ADD COLUMN announced BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sightings ADD COLUMN announcer_id BIGINT;
UPDATE sightings SET announced = 1 WHERE run_id IN (SELECT id FROM runs WHERE status <> 'running');
CREATE INDEX sightings_unannounced ON sightings (target) WHERE announced = 0;
CREATE INDEX sightings_by_announcer ON sightings (announcer_id) WHERE announcer_id IS NOT NULL;

-- PostgreSQL only: one row for each connection, with the number of its last transaction that was committed. Where a
-- connection broke during a commit, the row says what became of it. `is_void` is 1 where it must not be committed any
-- more.
CREATE TABLE commits (
    session TEXT NOT NULL,
    number BIGINT NOT NULL,
    is_void BIGINT NOT NULL,
    written_at BIGINT NOT NULL,
    PRIMARY KEY (session, number)
);
