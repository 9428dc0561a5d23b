"""What Amazon Connect knows about a finished contact, captured: the domain that the functions share.

Pure, without the SDK: `contact`, `reference` and its `canonical` values, `capture`, `timestamps`, `pacing`,
`errors`. Adapters to one service each: `connect`, `ledger` (DynamoDB), `lake` (S3), `queue` (SQS), with
`aws_errors` for what their calls' failures mean. The use case: `intake` of messages, `batch` of contacts, `report`
to operators. What a function is told from outside: `settings`.
"""
