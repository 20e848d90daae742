-- Version 2. Whole reports of images, and names that say what the tables of version 1 hold.

-- What version 1 calls a rule set is the key of layer reports: rules, reader revision, limits and fingerprint key.
ALTER TABLE rulesets RENAME TO layer_keys;
ALTER TABLE layer_reports RENAME COLUMN ruleset_id TO layer_key_id;
ALTER TABLE layer_findings RENAME COLUMN ruleset_id TO layer_key_id;
ALTER TABLE findings RENAME COLUMN ruleset_id TO layer_key_id;
ALTER TABLE image_verdicts RENAME COLUMN ruleset_id TO layer_key_id;
ALTER TABLE runs RENAME COLUMN ruleset_id TO layer_key_id;
ALTER TABLE jobs RENAME COLUMN ruleset_id TO layer_key_id;

-- Verdicts are what a policy says of a report, and are not stored.
ALTER TABLE image_verdicts RENAME TO image_counts;

-- The report of an image, before any policy and with its secrets masked: its JSON form, compressed with zstd, which has
-- `bytes` bytes uncompressed. `ruleset` is the digest of the rules that the report names. An image of version 1 has
-- findings and counts, and no row here: its report is unknown until the image is assembled again.
CREATE TABLE image_reports (
    image_id BIGINT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    layer_key_id BIGINT NOT NULL REFERENCES layer_keys (id),
    ruleset TEXT NOT NULL,
    report {blob} NOT NULL,
    bytes BIGINT NOT NULL,
    stored_at BIGINT NOT NULL,
    PRIMARY KEY (image_id, layer_key_id)
);
