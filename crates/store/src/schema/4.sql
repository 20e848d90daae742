-- Version 4. What sweeps did not see, and what their listings rest on.

-- `seen_in` is the number of the latest run in the store when the tag was last listed: unlike `last_seen` it puts
-- sightings and sweeps in order whatever the clocks say. `unseen_since` is when a sweep that covers the tag did not see
-- it any more, and `unseen_by` the login of that sweep, empty for a stranger.
ALTER TABLE tags ADD COLUMN seen_in BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tags ADD COLUMN unseen_since BIGINT;
ALTER TABLE tags ADD COLUMN unseen_by TEXT;

-- What a run listed. Only one that is `complete` is compared with.
CREATE TABLE run_listings (
    run_id BIGINT PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    filter TEXT NOT NULL,
    login TEXT,
    projects BIGINT,
    repositories BIGINT NOT NULL,
    images BIGINT NOT NULL,
    complete BIGINT NOT NULL
);

-- The name that version 1 gave the counts of an image, for programs that read the store.
CREATE VIEW image_verdicts AS
    SELECT image_id, layer_key_id, critical, high, medium, low, info, gaps, unread, assembled_at FROM image_counts;
