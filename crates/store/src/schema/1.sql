-- Version 1. `{id}` is a numbered primary key and `{blob}` the type of bytes, in the words of either database.
-- Times are seconds since 1970. Digests, rules, packages and instructions are stored once and named by number.

CREATE TABLE rulesets (
    id {id},
    digest TEXT NOT NULL UNIQUE
);

CREATE TABLE layers (
    id {id},
    digest TEXT NOT NULL UNIQUE,
    diff_id TEXT,
    blob_bytes BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX layers_by_diff_id ON layers (diff_id) WHERE diff_id IS NOT NULL;

CREATE TABLE layer_reports (
    layer_id BIGINT NOT NULL REFERENCES layers (id),
    ruleset_id BIGINT NOT NULL REFERENCES rulesets (id),
    report {blob} NOT NULL,
    bytes BIGINT NOT NULL,
    blob_bytes BIGINT NOT NULL,
    scanned_at BIGINT NOT NULL,
    PRIMARY KEY (layer_id, ruleset_id)
);

-- Every run of layers from the base up that an image begins with, as a tree: the parent is the run without the last
-- layer, 0 where there is none. `image_id` is the first image that has exactly these layers: a possible base.
CREATE TABLE chains (
    id {id},
    parent_id BIGINT NOT NULL,
    layer_id BIGINT NOT NULL REFERENCES layers (id),
    image_id BIGINT,
    UNIQUE (parent_id, layer_id)
);

CREATE TABLE instructions (
    id {id},
    hash TEXT NOT NULL UNIQUE,
    created_by TEXT NOT NULL
);

CREATE TABLE images (
    id {id},
    manifest_digest TEXT NOT NULL UNIQUE,
    config_digest TEXT,
    platform TEXT,
    layers_count BIGINT NOT NULL,
    first_seen BIGINT NOT NULL
);

-- `layers_count` is that of the image: the images of a layer are read in the order of their size, bases first.
CREATE TABLE image_layers (
    image_id BIGINT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    layer_id BIGINT NOT NULL REFERENCES layers (id),
    chain_id BIGINT NOT NULL REFERENCES chains (id),
    instruction_id BIGINT REFERENCES instructions (id),
    layers_count BIGINT NOT NULL,
    PRIMARY KEY (image_id, position)
);
CREATE INDEX image_layers_by_layer ON image_layers (layer_id, layers_count, image_id, position);

CREATE TABLE repositories (
    id {id},
    registry TEXT NOT NULL,
    project TEXT NOT NULL,
    repository TEXT NOT NULL,
    UNIQUE (registry, project, repository)
);

-- `digest` is what the tag named: the image, or an index that has it as a child. An empty tag is an image without one.
CREATE TABLE tags (
    id {id},
    repository_id BIGINT NOT NULL REFERENCES repositories (id),
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    image_id BIGINT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    gone_at BIGINT,
    UNIQUE (repository_id, tag, digest, image_id)
);
CREATE INDEX tags_by_image ON tags (image_id);

CREATE TABLE rules (
    id {id},
    hash TEXT NOT NULL UNIQUE,
    rule TEXT NOT NULL,
    title TEXT NOT NULL,
    severity TEXT NOT NULL,
    confidence TEXT NOT NULL
);

CREATE TABLE packages (
    id {id},
    hash TEXT NOT NULL UNIQUE,
    name_key BIGINT NOT NULL,
    ecosystem TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT
);
CREATE INDEX packages_by_name ON packages (name_key);

-- Layers whose findings are known for a rule set: `findings` has those that every image with the layer shares.
CREATE TABLE layer_findings (
    layer_id BIGINT NOT NULL REFERENCES layers (id),
    ruleset_id BIGINT NOT NULL REFERENCES rulesets (id),
    findings BIGINT NOT NULL,
    PRIMARY KEY (layer_id, ruleset_id)
);

-- A finding of a layer is one row, however many images share the layer. It holds for each of them (`shared` = 1),
-- in `state` and with `package_id`, unless `image_findings` has a row that says otherwise (`excepted` = 1 when there
-- are any). A finding with `shared` = 0 is only in the images that `image_findings` names. `path_key` stands for a
-- path of any length.
CREATE TABLE findings (
    id {id},
    ruleset_id BIGINT NOT NULL REFERENCES rulesets (id),
    layer_id BIGINT REFERENCES layers (id),
    finding_id TEXT NOT NULL,
    rule_id BIGINT NOT NULL REFERENCES rules (id),
    path TEXT,
    path_key BIGINT,
    inside TEXT,
    config TEXT,
    state TEXT NOT NULL,
    fingerprint TEXT,
    masked TEXT,
    length BIGINT,
    package_id BIGINT REFERENCES packages (id),
    shared BIGINT NOT NULL,
    excepted BIGINT NOT NULL DEFAULT 0,
    first_seen BIGINT NOT NULL
);
CREATE UNIQUE INDEX findings_by_id ON findings (finding_id, ruleset_id, COALESCE(layer_id, 0));
CREATE INDEX findings_by_layer ON findings (layer_id, ruleset_id);
CREATE INDEX findings_by_fingerprint ON findings (fingerprint, layer_id) WHERE fingerprint IS NOT NULL;
CREATE INDEX findings_by_path ON findings (path_key, layer_id) WHERE path_key IS NOT NULL;
CREATE INDEX findings_by_package ON findings (package_id, layer_id) WHERE package_id IS NOT NULL;
-- The few that images say anything of.
CREATE INDEX findings_odd_by_path ON findings (path_key) WHERE path_key IS NOT NULL AND (shared = 0 OR excepted = 1);
CREATE INDEX findings_odd_by_fingerprint ON findings (fingerprint)
    WHERE fingerprint IS NOT NULL AND (shared = 0 OR excepted = 1);
CREATE INDEX findings_odd_by_package ON findings (package_id)
    WHERE package_id IS NOT NULL AND (shared = 0 OR excepted = 1);

-- What an image says otherwise than its layers do. `state` may be `absent`: the image does not have the finding.
-- `position` is -1 for what is in no layer.
CREATE TABLE image_findings (
    image_id BIGINT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    finding BIGINT NOT NULL REFERENCES findings (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    state TEXT NOT NULL,
    ended_position BIGINT,
    rule_id BIGINT NOT NULL REFERENCES rules (id),
    package_id BIGINT REFERENCES packages (id),
    PRIMARY KEY (image_id, finding, position)
);
CREATE INDEX image_findings_by_finding ON image_findings (finding, image_id);
CREATE INDEX image_findings_by_package ON image_findings (package_id) WHERE package_id IS NOT NULL;

-- `unread` counts the layers that were not read when the image was assembled.
CREATE TABLE image_verdicts (
    image_id BIGINT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    ruleset_id BIGINT NOT NULL REFERENCES rulesets (id),
    critical BIGINT NOT NULL,
    high BIGINT NOT NULL,
    medium BIGINT NOT NULL,
    low BIGINT NOT NULL,
    info BIGINT NOT NULL,
    gaps BIGINT NOT NULL,
    unread BIGINT NOT NULL,
    assembled_at BIGINT NOT NULL,
    PRIMARY KEY (image_id, ruleset_id)
);

CREATE TABLE runs (
    id {id},
    target TEXT NOT NULL,
    ruleset_id BIGINT NOT NULL REFERENCES rulesets (id),
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    images BIGINT NOT NULL DEFAULT 0,
    layers_read BIGINT NOT NULL DEFAULT 0,
    layers_known BIGINT NOT NULL DEFAULT 0,
    bytes_pulled BIGINT NOT NULL DEFAULT 0,
    bytes_saved BIGINT NOT NULL DEFAULT 0,
    status TEXT NOT NULL
);

-- When something was first found in a target: a secret by its fingerprint, anything else by its finding's id.
CREATE TABLE sightings (
    thing TEXT NOT NULL,
    target TEXT NOT NULL,
    run_id BIGINT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    image_id BIGINT NOT NULL,
    PRIMARY KEY (thing, target)
);
CREATE INDEX sightings_by_run ON sightings (run_id);

-- A layer to read. `attempts` counts the failures and the lease that runs; `claims` only grows, so that a worker whose
-- job was given to another is told from that one.
CREATE TABLE jobs (
    id {id},
    layer_id BIGINT NOT NULL REFERENCES layers (id),
    ruleset_id BIGINT NOT NULL REFERENCES rulesets (id),
    size BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    claims BIGINT NOT NULL DEFAULT 0,
    not_before BIGINT NOT NULL DEFAULT 0,
    state TEXT NOT NULL,
    lease_owner TEXT,
    lease_until BIGINT,
    error TEXT,
    enqueued_at BIGINT NOT NULL,
    UNIQUE (layer_id, ruleset_id)
);
CREATE INDEX jobs_queued ON jobs (ruleset_id, priority DESC, enqueued_at, id) WHERE state = 'queued';
CREATE INDEX jobs_leased ON jobs (lease_until) WHERE state = 'leased';
CREATE INDEX jobs_poisoned ON jobs (ruleset_id) WHERE state = 'poisoned';

-- Where the blob of a job can be pulled from; `source` is the caller's own.
CREATE TABLE job_sources (
    job_id BIGINT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    hash TEXT NOT NULL,
    source TEXT NOT NULL,
    PRIMARY KEY (job_id, hash)
);
