"""What AWS charges for what a run used, by its name, at the list prices of `ops/prices.py`.

Amounts are counted in a run and multiplied here. Storage, data transfer and whatever ours and the baseline have alike
(EventBridge takes no money for AWS's own events) are left out.
"""

import math
from collections.abc import Iterable, Mapping

from local.in_memory.usage import INDEX_UNITS, PUTS, QUEUE_REQUESTS, READ_UNITS, WRITE_UNITS, Usage
from ops import prices

POLLS = "SQS empty receives of idle pollers"
KEY_REQUESTS = "KMS requests"
INVOCATIONS = "Lambda requests"
GB_SECONDS = "Lambda GB-seconds"
LOG_BYTES = "log bytes"
TRACES = "X-Ray traces"
METRIC_MONTHS = "custom metrics, months"
KEY_MONTHS = "keys, months"

PRICES: Mapping[str, float] = {
    WRITE_UNITS: prices.DYNAMODB_WRITE_UNIT,
    INDEX_UNITS: prices.DYNAMODB_WRITE_UNIT,
    READ_UNITS: prices.DYNAMODB_READ_UNIT,
    PUTS: prices.S3_PUT,
    QUEUE_REQUESTS: prices.SQS_REQUEST,
    POLLS: prices.SQS_REQUEST,
    KEY_REQUESTS: prices.KMS_REQUEST,
    INVOCATIONS: prices.LAMBDA_REQUEST,
    GB_SECONDS: prices.LAMBDA_GB_SECOND,
    LOG_BYTES: prices.LOG_BYTE,
    TRACES: prices.TRACE,
    METRIC_MONTHS: prices.METRIC_MONTH,
    KEY_MONTHS: prices.KEY_MONTH,
}
"""US dollars a unit."""


def price(usage: Mapping[str, float]) -> dict[str, float]:
    """Return US dollars by what they are paid for, in the order of PRICES; raises KeyError for what has no price.

    >>> price({PUTS: 1e6, KEY_MONTHS: 2})
    {'S3 PUT requests': 5.0, 'keys, months': 2.0}
    """
    if unknown := usage.keys() - PRICES.keys():
        raise KeyError(f"no price for {', '.join(sorted(unknown))}")
    return {name: usage[name] * dollars for name, dollars in PRICES.items() if name in usage}


def sampled_traces(moments: Iterable[float]) -> float:
    """Return how many invocations X-Ray's default rule samples: the first of each second, and a twentieth of the rest.

    >>> sampled_traces([0.1, 0.2, 5.0])
    2.05
    """
    seconds = [int(moment) for moment in moments]
    first = len(set(seconds))
    return first + 0.05 * (len(seconds) - first)


_HOURS_A_MONTH = 730
_KEY_MINUTES = 5
_POLLERS = 5
_POLLS_A_DAY = 86400 / 20


def used_by_the_month(*, metric_hours: int, busy_minutes: int, concurrency: int, days: float) -> Usage:
    """Return what is not paid for by the contact: metrics, a key with what is asked of it, and pollers without work.

    A metric is charged for the hours in which it gets data: `metric_hours` are those of all metrics together. DynamoDB
    and S3 (with a bucket key; assumed to be alike) ask KMS once in five minutes of use. An event source with a maximum
    concurrency keeps polling with five, of which no more than that concurrency have work; an answer to each comes after
    20 seconds (assumed from its documentation).
    """
    return Usage(
        {
            POLLS: max(0, _POLLERS - concurrency) * _POLLS_A_DAY * days,
            METRIC_MONTHS: metric_hours / _HOURS_A_MONTH,
            KEY_MONTHS: days * 24 / _HOURS_A_MONTH,
            KEY_REQUESTS: 2 * math.ceil(busy_minutes / _KEY_MINUTES),
        }
    )
