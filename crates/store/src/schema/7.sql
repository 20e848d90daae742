-- Version 7. Scans that a Harbor asked for, messages about what was found, and copies of the log of decisions.

-- A scan that a Harbor waits for, by a random id. `reference` is what is pulled, `source` its registry and repository.
-- `request` is what was asked for, without the login, which is `sealed`, is good until `sealed_until`, and goes with
-- the end of the task. `progress` is how far a second scanner is. What ended has a report, or an error. `fetched_at` is
-- when Harbor had either: one that never does has given up.
CREATE TABLE harbor_tasks (
    id TEXT PRIMARY KEY,
    reference TEXT NOT NULL,
    source TEXT NOT NULL,
    request TEXT NOT NULL,
    sealed {blob},
    sealed_until BIGINT,
    state TEXT NOT NULL,
    progress TEXT,
    error TEXT,
    report {blob},
    not_before BIGINT NOT NULL DEFAULT 0,
    deadline BIGINT NOT NULL,
    claims BIGINT NOT NULL DEFAULT 0,
    lease_process TEXT,
    lease_until BIGINT,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    fetched_at BIGINT
);
CREATE INDEX harbor_tasks_open ON harbor_tasks (not_before) WHERE state = 'open';
CREATE INDEX harbor_tasks_sealed ON harbor_tasks (source, sealed_until) WHERE sealed IS NOT NULL;
CREATE INDEX harbor_tasks_ended ON harbor_tasks (ended_at) WHERE state <> 'open';

-- Images whose scans a Harbor was asked for again, and how often: none is asked for without end.
CREATE TABLE harbor_rescans (
    reference TEXT PRIMARY KEY,
    attempts BIGINT NOT NULL,
    asked_at BIGINT NOT NULL
);

-- Messages about what was found, in the order in which they are sent: those that the receiver refused come after the
-- others. `message` is without secrets, and in no format yet; `delivery` is what the receiver knows it by.
CREATE TABLE notifications (
    id {id},
    delivery TEXT NOT NULL UNIQUE,
    message TEXT NOT NULL,
    state TEXT NOT NULL,
    refused BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    not_before BIGINT NOT NULL DEFAULT 0,
    error TEXT,
    created_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX notifications_waiting ON notifications (refused, id) WHERE state = 'waiting';
CREATE INDEX notifications_ended ON notifications (ended_at) WHERE state <> 'waiting';

-- Services before told nobody what they found, and what is known for long is no news.
UPDATE sightings SET announced = 1 WHERE announced = 0 AND target = 'service';
