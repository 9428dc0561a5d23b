-- What a day's tables hold, made of `lines`, the records of the day's lake. DuckDB runs it, statement by statement;
-- `folder` is where the tables go.

-- A line is a record if it says whose it is, of which capture, and how many references or which one.
CREATE TEMP MACRO is_record(line) AS coalesce(
    line.instance_id IS NOT NULL AND line.contact_id IS NOT NULL AND line.capture_id IS NOT NULL
    AND try_cast(line.captured_at AS TIMESTAMP) IS NOT NULL
    AND CASE line.record_type
        WHEN 'CONTACT' THEN try_cast(line.reference_count AS INTEGER) >= 0
        WHEN 'REFERENCE' THEN line.reference_id IS NOT NULL AND line.reference_type IS NOT NULL
    END,
    false
);

CREATE TEMP VIEW malformed AS
SELECT object, line
FROM (
    -- The order of the rows is that of the lines.
    SELECT object, row_number() OVER (PARTITION BY object ORDER BY rowid) AS line, is_record(lines) AS is_one
    FROM lines
    WHERE object IN (SELECT object FROM lines WHERE NOT is_record(lines))
)
WHERE NOT is_one
ORDER BY object, line;

-- Each capture once, however often it was appended, and whether the lake has every record of it.
CREATE TEMP TABLE captures AS
SELECT
    instance_id,
    contact_id,
    capture_id,
    max(try_cast(captured_at AS TIMESTAMP)) AS captured_at,
    coalesce(
        max(try_cast(reference_count AS INTEGER)) FILTER (record_type = 'CONTACT') = count(DISTINCT reference_id),
        false
    ) AS is_whole
FROM lines
WHERE is_record(lines)
GROUP BY instance_id, contact_id, capture_id;

-- Of each contact the capture that counts: the newest whole one.
CREATE TEMP TABLE newest AS
SELECT instance_id, contact_id, arg_max(capture_id, (captured_at, capture_id)) AS capture_id
FROM captures
WHERE is_whole
GROUP BY instance_id, contact_id;

-- Its records, each once.
CREATE TEMP TABLE current AS
SELECT min(lines.rowid) AS row
FROM lines
SEMI JOIN newest USING (instance_id, contact_id, capture_id)
WHERE is_record(lines)
GROUP BY instance_id, contact_id, record_type, reference_id;

-- Contacts of which a newer capture is left out, because the lake does not have all of it.
CREATE TEMP VIEW incomplete AS
SELECT instance_id, contact_id
FROM captures
GROUP BY instance_id, contact_id
HAVING NOT arg_max(is_whole, (captured_at, capture_id));

COPY (
    SELECT
        instance_id,
        contact_id,
        initial_contact_id,
        channel,
        initiation_method,
        try_cast(completed_at AS TIMESTAMP) AS completed_at,
        capture_id,
        try_cast(captured_at AS TIMESTAMP) AS captured_at,
        reference_id,
        reference_type,
        reference_name,
        reference_value,
        canonical_value,
        -- Exactly, or not at all: a cast alone would round.
        CASE
            WHEN regexp_full_match(number_value, '-?\d{1,29}(\.\d{1,9}0*)?') THEN try_cast(number_value AS DECIMAL(38, 9))
        END AS number_value,
        try_cast(date_value AS TIMESTAMP) AS date_value,
        try_cast(is_valid AS BOOLEAN) AS is_valid,
        arn,
        status,
        analytics_mode,
        try_cast(is_redacted AS BOOLEAN) AS is_redacted,
        raw
    FROM lines
    WHERE record_type = 'REFERENCE' AND rowid IN (SELECT row FROM current)
    ORDER BY completed_at, instance_id, contact_id, reference_type, reference_id
) TO (getvariable('folder') || '/references.parquet') (FORMAT parquet, COMPRESSION zstd);

COPY (
    SELECT
        instance_id,
        contact_id,
        initial_contact_id,
        channel,
        initiation_method,
        try_cast(completed_at AS TIMESTAMP) AS completed_at,
        capture_id,
        try_cast(captured_at AS TIMESTAMP) AS captured_at,
        try_cast(reference_count AS INTEGER) AS reference_count
    FROM lines
    WHERE record_type = 'CONTACT' AND rowid IN (SELECT row FROM current)
    ORDER BY completed_at, instance_id, contact_id
) TO (getvariable('folder') || '/contacts.parquet') (FORMAT parquet, COMPRESSION zstd);
