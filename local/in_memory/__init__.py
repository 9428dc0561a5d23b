"""AWS in memory: the operations that this project calls, as strict as the services, deterministic and counted.

Each service is an object that answers in a boto3 client's place (`service.put_item(…)`) or behind one
(`service.stand_behind(client)`: real requests, real parsing, no socket), or behind many over TLS (`server.Server`).
It refuses what AWS refuses, knows no more expressions than are used, and takes the time from a clock that it is given.

```
service       what all of them share: calls, refusals, the two doors
dynamodb      items, batches, conditions, the indexes, and capacity units
expressions   DynamoDB's conditions and updates
s3            PutObject
sqs           messages sent, delayed and handed back
connect       ListContactReferences and SearchContacts
server        all of them at one address, over TLS
environment   execution environments of the functions on them
events        completions and messages
usage         what was used of what AWS charges for
```
"""
