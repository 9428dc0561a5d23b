-- Every line of the files `objects`, as text. What is no JSON object is a line of nulls.
CREATE TEMP TABLE lines AS
SELECT *
FROM read_json(
    getvariable('objects'),
    format = 'newline_delimited',
    compression = 'gzip',
    ignore_errors = true,
    filename = 'object',
    columns = {
        record_type: 'VARCHAR', instance_id: 'VARCHAR', contact_id: 'VARCHAR', initial_contact_id: 'VARCHAR',
        channel: 'VARCHAR', initiation_method: 'VARCHAR', completed_at: 'VARCHAR', capture_id: 'VARCHAR',
        captured_at: 'VARCHAR', reference_count: 'VARCHAR', reference_id: 'VARCHAR', reference_type: 'VARCHAR',
        reference_name: 'VARCHAR', reference_value: 'VARCHAR', canonical_value: 'VARCHAR', number_value: 'VARCHAR',
        date_value: 'VARCHAR', is_valid: 'VARCHAR', arn: 'VARCHAR', status: 'VARCHAR', analytics_mode: 'VARCHAR',
        is_redacted: 'VARCHAR', raw: 'VARCHAR'
    }
);
