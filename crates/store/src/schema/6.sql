-- Version 6. What a service keeps: the keys it answered by, the images it was asked about, and which of several
-- processes does what only one is to do.

-- The key by which a request that is done was scanned.
ALTER TABLE scan_requests ADD COLUMN layer_key_id BIGINT REFERENCES layer_keys (id);

-- The images that an index or an image leads to.
CREATE INDEX tags_by_digest ON tags (digest, image_id);

-- When reports were made, without reading the reports, which stand before the time in their rows.
CREATE INDEX image_reports_by_image ON image_reports (image_id, stored_at, layer_key_id);
CREATE INDEX layer_reports_by_layer ON layer_reports (layer_id, layer_key_id, scanned_at);

-- The keys that services answer by, and until when one did.
CREATE TABLE served_keys (
    layer_key_id BIGINT PRIMARY KEY REFERENCES layer_keys (id),
    last_served BIGINT NOT NULL
);

-- A request that comes again is queued behind those that came before it.
CREATE INDEX scan_requests_in_order ON scan_requests (class, requested_at, id) WHERE state = 'queued';

-- Images that clients asked about, by the reference that is pulled. `layer_key_id` is the key of the report that they
-- were answered by, or scanned by, last; NULL where there was none.
CREATE TABLE asked_images (
    reference TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    last_asked BIGINT NOT NULL,
    layer_key_id BIGINT REFERENCES layer_keys (id)
);
CREATE INDEX asked_images_by_time ON asked_images (last_asked);
CREATE INDEX asked_images_by_digest ON asked_images (digest, last_asked);

-- Work that one process at a time does. `lease_seconds` is how long the lease was when it began: a time that is much
-- further away was set by a clock that was wrong.
CREATE TABLE service_leases (
    name TEXT PRIMARY KEY,
    process TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    lease_seconds BIGINT NOT NULL
);
