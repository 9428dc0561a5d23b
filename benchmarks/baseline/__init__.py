"""What a good engineer writes in an afternoon for the same job: EventBridge straight to a Lambda function.

It writes the same ledger and lake columns, with the SDK's default retries and Lambda's two asynchronous ones.
Everything here is meant well: it is the measure, not a straw man.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from local.emulator import Clients

_HERE = Path(__file__).parent


def build(target: Path) -> None:
    """Install the function and what it needs, some of it compiled, for the machine and the Python that run this."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "--target", str(target), "--requirement", str(_HERE / "requirements.txt")]
    subprocess.run(command, check=True, stderr=subprocess.PIPE)
    shutil.copy(_HERE / "handler.py", target)


def create_stores(clients: Clients) -> dict[str, str]:
    """Create its table, with its index, and its bucket; return their names as outputs of a deployment."""
    clients.dynamodb.create_table(
        TableName="baseline",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[
            {"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "value_key", "value_at")
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by_value",
                "KeySchema": [
                    {"AttributeName": "value_key", "KeyType": "HASH"},
                    {"AttributeName": "value_at", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    clients.s3.create_bucket(Bucket="baseline")
    return {"TableName": "baseline", "BucketName": "baseline"}
