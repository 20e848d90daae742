-- Version 8. What a service saw in prompts.

-- Secrets that clients sent to models or got from them, by their keyed fingerprints, never by their text. `direction` is
-- `prompt`, `answer` or `quoted`. A client or a model without a name has an empty one.
CREATE TABLE prompt_sightings (
    fingerprint TEXT NOT NULL,
    direction TEXT NOT NULL,
    client TEXT NOT NULL,
    model TEXT NOT NULL,
    rule TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    PRIMARY KEY (fingerprint, direction, client, model)
);
CREATE INDEX prompt_sightings_last ON prompt_sightings (last_seen);
