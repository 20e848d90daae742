-- Version 5. What the service is asked for: images to scan, and who may ask.

-- An image that somebody waits for, by the reference that is pulled: the registry, the repository and a digest. Lower
-- classes come first, and inside a class the oldest. `failure` says why it cannot be read; such an image is taken up
-- again when it is asked for after `not_before`.
CREATE TABLE scan_requests (
    id {id},
    reference TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    class BIGINT NOT NULL,
    client TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    claims BIGINT NOT NULL DEFAULT 0,
    not_before BIGINT NOT NULL DEFAULT 0,
    lease_process TEXT,
    lease_until BIGINT,
    lease_seconds BIGINT,
    failure TEXT,
    error TEXT,
    requested_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX scan_requests_queued ON scan_requests (class, id) WHERE state = 'queued';
CREATE INDEX scan_requests_running ON scan_requests (lease_until) WHERE state = 'running';
CREATE INDEX scan_requests_by_digest ON scan_requests (digest);

-- Tokens of clients: `hash` is the SHA-256 of the token, which is random and is not kept.
CREATE TABLE api_tokens (
    id {id},
    name TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);
