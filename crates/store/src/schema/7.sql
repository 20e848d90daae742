-- Version 7. What a service keeps for a Harbor, and for those whom it tells.

-- A scan that a Harbor waits for, by a random id. `reference` is what is pulled, `source` its registry and repository.
-- `request` is what was asked for, without the login, which is `sealed`, is good until `sealed_until`, and goes with
-- the end of the task. `phase` is what an open task waits for, and `progress` how far it is, in whatever form. What
-- ended has a report, in a table of its own since it is large, or an error. `losses` counts claims that were never given
-- back, as by a process that was killed. `fetched_at` is when Harbor had the end: one that never does has given up.
CREATE TABLE harbor_tasks (
    id TEXT PRIMARY KEY,
    reference TEXT NOT NULL,
    source TEXT NOT NULL,
    request TEXT NOT NULL,
    sealed {blob},
    sealed_until BIGINT,
    state TEXT NOT NULL,
    phase TEXT NOT NULL,
    progress TEXT,
    error TEXT,
    not_before BIGINT NOT NULL DEFAULT 0,
    deadline BIGINT NOT NULL,
    claims BIGINT NOT NULL DEFAULT 0,
    losses BIGINT NOT NULL DEFAULT 0,
    lease_process TEXT,
    lease_until BIGINT,
    created_at BIGINT NOT NULL,
    ended_at BIGINT,
    fetched_at BIGINT
);
CREATE INDEX harbor_tasks_open ON harbor_tasks (not_before) WHERE state = 'open';
CREATE INDEX harbor_tasks_sealed ON harbor_tasks (source, sealed_until) WHERE sealed IS NOT NULL;
CREATE INDEX harbor_tasks_ended ON harbor_tasks (ended_at) WHERE state <> 'open';

CREATE TABLE harbor_reports (
    task TEXT PRIMARY KEY,
    report {blob} NOT NULL
);

-- Images whose scans a Harbor was asked for again, and how often: none is asked for without end. The one
-- without a name is when a Harbor was last told of an error that was not that of an image.
CREATE TABLE harbor_rescans (
    reference TEXT PRIMARY KEY,
    attempts BIGINT NOT NULL,
    asked_at BIGINT NOT NULL
);

-- Copies of the files of an instance's log of decisions. None is ever written twice.
CREATE TABLE audit_copies (
    instance TEXT NOT NULL,
    name TEXT NOT NULL,
    bytes {blob} NOT NULL,
    stored_at BIGINT NOT NULL,
    PRIMARY KEY (instance, name)
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
