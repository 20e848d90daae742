-- Version 9. What bounds the work of an image whose layers are read one after the other.

-- The work that the layer took beyond what its bytes permit. Reports under the keys of older programs say 0; no program
-- that looks at this column uses these keys.
ALTER TABLE layer_reports ADD COLUMN extra_work BIGINT NOT NULL DEFAULT 0;
