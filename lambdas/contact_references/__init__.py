"""What Amazon Connect knows about a finished contact, captured: the domain that the functions share.

Pure, without the SDK: `contact`, `reference`, `capture`, `timestamps`, `pacing`, `errors`.
Adapters to one service each: `connect`, `ledger` (DynamoDB), `lake` (S3), `queue` (SQS).
The use case: `batch`. What a function is told from outside: `settings`.
"""
