"""Makes each call of a list with the SDK at hand, and prints what was sent and understood; nothing leaves the process.

Runs in an interpreter of its own, with one SDK in reach.
"""

import json
import sys
from datetime import datetime
from typing import Any

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

REGIONS = ["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1", "us-iso-east-1", "eusc-de-east-1", "xx-new-1"]
OF_THE_MOMENT = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "user-agent"}


class _Raw:
    def __init__(self, body: str) -> None:
        self._body = body.encode()

    def stream(self) -> list[bytes]:
        return [self._body]


class _Sdk:
    def __init__(self) -> None:
        self.session = botocore.session.Session()
        self.session.set_credentials("synthetic", "synthetic")

    def client(self, service: str, region: str = "us-east-1", options: Any = None) -> Any:
        config = Config(retries={"total_max_attempts": 1}, **(options or {}))
        return self.session.create_client(service, region_name=region, config=config)

    def endpoints(self, service: str) -> list[Any]:
        kinds = ({"use_fips_endpoint": True}, {"use_dualstack_endpoint": True})
        clients = [self.client(service, region) for region in REGIONS]
        clients += [self.client(service, options=kind) for kind in kinds]
        known = [self.session.get_available_regions(service, partition) for partition in ("aws", "aws-cn")]
        return [*(client.meta.endpoint_url for client in clients), *known]


def _call(client: Any, case: dict[str, Any]) -> dict[str, Any]:
    sent: dict[str, Any] = {}

    def answer(request: Any, **_: object) -> AWSResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = request.body.read() if hasattr(request.body, "read") else request.body
        sent.update(method=request.method, url=request.url, body=body)
        sent["headers"] = {name: value for name, value in headers.items() if name not in OF_THE_MOMENT}
        return AWSResponse(request.url, case["status"], case["headers"], _Raw(case["body"]))

    client.meta.events.register_first("before-send", answer, unique_id="answer")
    try:
        understood = getattr(client, case["method"])(**_with_times(case["parameters"]))
        kind = None
    except ClientError as error:
        understood, kind = error.response, type(error).__name__
        is_modelled = isinstance(error, getattr(client.exceptions, kind, ()))
        kind += " of the client's exceptions" if is_modelled else ""
    finally:
        client.meta.events.unregister("before-send", unique_id="answer")
    return {"sent": sent, "understood": understood, "kind": kind}


def _with_times(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"time"}:
            return datetime.fromisoformat(value["time"])
        return {name: _with_times(part) for name, part in value.items()}
    return [_with_times(part) for part in value] if isinstance(value, list) else value


def _report(cases: list[dict[str, Any]]) -> dict[str, Any]:
    sdk = _Sdk()
    clients = {service: sdk.client(service) for service in {case["service"] for case in cases}}
    return {
        "calls": {case["name"]: _call(clients[case["service"]], case) for case in cases},
        "paginators": {case["name"]: clients[case["service"]].can_paginate(case["method"]) for case in cases},
        "endpoints": {service: sdk.endpoints(service) for service in clients},
    }


if __name__ == "__main__":
    print(json.dumps(_report(json.load(sys.stdin)), default=repr))
