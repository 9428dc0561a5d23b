-- The day's tables as they were, in the folder `previous`, as lines: they hold whole captures, as an object does.
INSERT INTO lines BY NAME
SELECT 'CONTACT' AS record_type, 'contacts' AS object, CAST(COLUMNS(*) AS VARCHAR)
FROM read_parquet(getvariable('previous') || '/contacts.parquet');

INSERT INTO lines BY NAME
SELECT 'REFERENCE' AS record_type, 'references' AS object, CAST(COLUMNS(*) AS VARCHAR)
FROM read_parquet(getvariable('previous') || '/references.parquet');
