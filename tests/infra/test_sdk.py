"""The SDK in the asset is cut to what the functions call; held here against the whole one."""

import ast
import json
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore
import botocore.session
import pytest
from botocore import xform_name
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape

from infra.asset import LAMBDAS, SDK_OPERATIONS, TABLES_SDK_OPERATIONS, build

PROBE = Path(__file__).with_name("sdk_probe.py")
START = "import runpy, sys; sys.path[:0] = [sys.argv[1]]; runpy.run_path(sys.argv[2], run_name='__main__')"
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/111122223333/queue"
MOMENT = 1_767_312_000


def whole_model(service: str) -> ServiceModel:
    return botocore.session.Session().get_service_model(service)


def example(shape: Shape, *, is_answer: bool, above: tuple[str, ...] = ()) -> Any:
    """Return a value with every member that the shape has; of those that hold their own kind, not the second."""

    def below(inner: Shape) -> list[Any]:
        is_deep = above.count(inner.name) > 1
        return [] if is_deep else [example(inner, is_answer=is_answer, above=(*above, shape.name))]

    match shape:
        case StructureShape():
            named = [
                {member.serialization.get("name", name) if is_answer else name: value}
                for name, member in shape.members.items()
                for value in below(member)
            ]
            return named[-1] if shape.is_tagged_union else {name: value for one in named for name, value in one.items()}
        case ListShape(member=StructureShape(is_tagged_union=True) as union):
            return [{name: value} for name, member in union.members.items() for value in below(member)]
        case ListShape():
            return below(shape.member)
        case MapShape():
            return {text(shape.key): value for value in below(shape.value)}
        case _:
            return scalar(shape, is_answer=is_answer)


def scalar(shape: Shape, *, is_answer: bool) -> Any:
    match shape.type_name:
        case "string":
            return text(shape)
        case "timestamp":
            return MOMENT if is_answer else {"time": "2026-01-02T00:00:00+00:00"}
        case "blob":
            return b64encode(b"blob").decode()
        case name:
            return {"boolean": True, "integer": 100, "long": 100, "double": 1.5, "float": 1.5}[name]


def text(shape: Shape) -> str:
    return str((shape.metadata.get("enum") or ["text"])[0])


def parameters(operation: OperationModel) -> dict[str, Any]:
    given: dict[str, Any] = example(operation.input_shape, is_answer=False) if operation.input_shape else {}
    given.pop("EndpointId", None)  # of a global endpoint: its requests are signed by a library that is not there
    return given | ({"QueueUrl": QUEUE_URL} if "QueueUrl" in given else {})


def answers(operation: OperationModel) -> Iterator[dict[str, Any]]:
    """Yield the answer with everything in it, then each error that the model knows, then one that it does not."""
    if operation.service_model.service_name == "s3":  # no JSON: answers in headers, errors in XML
        members = operation.output_shape.members.values() if operation.output_shape else []
        headers = {shape.serialization["name"]: str(example(shape, is_answer=True)) for shape in members}
        yield {"status": 200, "headers": headers, "body": ""}
        for code in [*(shape.name for shape in operation.error_shapes), "SlowDown", "AccessDenied"]:
            text = f"<Error><Code>{code}</Code><Message>text</Message></Error>"
            yield {"status": 503 if code == "SlowDown" else 400, "headers": {}, "body": text}
        yield {"status": 301, "headers": {"x-amz-bucket-region": "eu-central-1"}, "body": ""}
        return
    body = example(operation.output_shape, is_answer=True) if operation.output_shape else {}
    yield {"status": 200, "headers": {"x-amzn-requestid": "id"}, "body": json.dumps(body)}
    for shape in operation.error_shapes:
        content = {"__type": f"prefix#{shape.name}", "message": "text", **example(shape, is_answer=True)}
        status = shape.metadata.get("error", {}).get("httpStatusCode", 400)
        yield {"status": status, "headers": {"x-amzn-errortype": shape.name}, "body": json.dumps(content)}
    for code in ("ThrottlingException", "TooManyRequestsException", "AccessDeniedException", "NotInAnyModel"):
        yield {"status": 400, "headers": {"x-amzn-errortype": code}, "body": json.dumps({"__type": code})}
    yield {"status": 502, "headers": {}, "body": "<html>"}


def cases() -> Iterator[dict[str, Any]]:
    for service, operations in SDK_OPERATIONS.items():
        model = whole_model(service)
        for name in sorted(operations):
            operation = model.operation_model(name)
            for number, answer in enumerate(answers(operation)):
                call = {"service": service, "method": xform_name(name), "parameters": parameters(operation)}
                yield {"name": f"{service} {name} {number}", **call, **answer}


def probe(folder: Path) -> dict[str, Any]:
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", START, str(folder), str(PROBE)],
        input=json.dumps(list(cases())),
        env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    report: dict[str, Any] = json.loads(finished.stdout)
    return report


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the asset's SDK says to all cases, and what the whole one says."""
    asset = tmp_path_factory.mktemp("asset")
    build(source=LAMBDAS, target=asset)
    return probe(asset), probe(Path(botocore.__file__).parents[1])


def test_the_pruned_sdk_sends_and_understands_what_the_whole_one_does(reports: tuple[Any, Any]) -> None:
    pruned, whole = reports

    assert pruned["calls"] == whole["calls"]
    assert pruned["paginators"] == whole["paginators"]


def test_the_cases_are_more_than_empty_calls(reports: tuple[Any, Any]) -> None:
    calls = reports[1]["calls"]
    kinds = {call["kind"] for call in calls.values()}
    references = calls["connect ListContactReferences 0"]["understood"]["ReferenceSummaryList"]

    assert "referenceTypes=URL" in calls["connect ListContactReferences 0"]["sent"]["url"]
    assert len(references) == 11
    assert "ConditionalCheckFailedException of the client's exceptions" in kinds
    assert "ReturnValuesOnConditionCheckFailure" in calls["dynamodb PutItem 0"]["sent"]["body"]
    assert "DeleteRequest" in calls["dynamodb BatchWriteItem 0"]["sent"]["body"]
    assert "TimeRange" in calls["connect SearchContacts 0"]["sent"]["body"]
    assert "DelaySeconds" in calls["sqs SendMessageBatch 0"]["sent"]["body"]


def test_the_pruned_sdk_finds_the_same_endpoints_in_every_partition(reports: tuple[Any, Any]) -> None:
    pruned, whole = reports

    assert pruned["endpoints"] == whole["endpoints"]


TABLES_MODULES = {"aws/day_folders.py", "tables/run.py"}
"""Modules that only the tables function runs: their operations are in its asset alone."""


def is_of_tables(path: Path) -> bool:
    return any(path.match(f"contact_references/{name}") for name in TABLES_MODULES)


def operations_named(paths: list[Path]) -> set[str]:
    known = {xform_name(name) for service in SDK_OPERATIONS for name in whole_model(service).operation_names}
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return (attributes | texts) & known


def kept(operations: dict[str, set[str]]) -> set[str]:
    return {xform_name(name) for names in operations.values() for name in names}


def test_every_operation_that_the_functions_name_is_kept() -> None:
    named = operations_named([path for path in LAMBDAS.rglob("*.py") if not is_of_tables(path)])

    assert {"search_contacts", "batch_write_item", "query"} <= named
    assert named <= kept(SDK_OPERATIONS)


def test_every_operation_that_the_tables_function_names_is_kept() -> None:
    package = LAMBDAS / "contact_references"
    named = operations_named([package / "aws" / "days.py", *filter(is_of_tables, LAMBDAS.rglob("*.py"))])

    assert {"get_object", "list_object_versions", "update_item"} <= named
    assert named <= kept(TABLES_SDK_OPERATIONS)
