"""What a good engineer writes in an afternoon for the same job: EventBridge straight to a Lambda function.

It writes the same ledger and lake columns, with the SDK's default retries and Lambda's two asynchronous ones.
Everything here is meant well: it is the measure, not a straw man.
"""
