"""What Amazon Connect knows about a finished contact, captured: the package that the functions share.

Imports go one way: `handler → capture | reconcile | lookup | tables → aws → model`.

model/              pure, without SDK and I/O
    contact         a contact: what names it, whose it is, what is known about it
    events          contact events and capture requests, read tolerantly
    reference       members of the API's union, normalized to references
    values          the rules by which a value of each type is read
    reference_types which types a contact is asked for, and in which requests
    capture         a capture, its records, and the contact item that makes it count
    rechecks        when a contact is to be read again
    coverage        how far an hour is accounted for, and when to visit it again
    periods         periods of the past to search
    environment     variables of the environment, read and checked
    timestamps      times in one form
    errors          one class for each reaction that an error asks for
aws/                adapters, one store or service operation each
    references      ListContactReferences
    paced           calls of a Connect operation, each paid for
    pacing          the token bucket that they are paid from
    ledger          DynamoDB: rows, and the commit
    items           DynamoDB's items as dictionaries
    lake            S3: what was committed, appended
    days            DynamoDB: days whose tables are behind the lake, and the lease of a run
    day_folders     S3: a day's objects of the lake and the tables
    capture_queue   SQS: messages that come again, dead letters, and capture requests
    announcements   EventBridge: who wants to be told of captures
    search          SearchContacts, and which instances there are
    worklist        DynamoDB: hours, what is due, and the lease of a run
    sdk_errors      the SDK's errors, translated
capture/            captures completed contacts
    intake          from messages to reports, from failures to what the queue does next
    targets         the contacts of a batch, and what became of each
    capturer        look, decide, read, put rows, commit, clean up, append, announce
    decisions       what to do with a contact and what to write of it: pure
    report          log lines and metrics
    settings        the function's environment
reconcile/          accounts for every completed contact
    reconciler      a run: what is due, in turns
    hours           opened, searched, looked up, closed
    rechecks        asked for when they are due
    feeding         a slot in time for each request
    report          log lines, counts and gauges
    settings        the function's environment
lookup/             looks up what was captured
    reader          contacts' captures, and the contacts that have a value
    flow            what a Connect flow asks, and the answer in its form
tables/             makes tables of the lake
    run             the days that changed, one by one, and those past their retention
    day             a day's tables, by DuckDB and the .sql files beside it
    commands        days to make anew
    report          log lines and metrics
    settings        the function's environment
"""
