"""A simulator of the Amazon Connect API: contacts, their references, their events, on one machine.

The unmodified SDK talks to it through ``AWS_ENDPOINT_URL_CONNECT``. Eight operations exist: StartTaskContact,
CreateContact, UpdateContact, StopContact, DescribeContact, ListContactReferences, SearchContacts and ListInstances.
Requests are routed and validated by botocore's own model of the service, strictly; request signatures are not checked.

From a shell ``python -m connect_simulator``, from Python::

    with ConnectSimulator() as simulator:
        connect = boto3.client("connect", endpoint_url=simulator.url)
"""

from connect_simulator.model import ServiceError
from connect_simulator.server import ConnectSimulator

__all__ = ["ConnectSimulator", "ServiceError"]
