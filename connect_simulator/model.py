"""What the Amazon Connect API takes, from botocore's own model: routes, parameters, errors."""

import functools
import json
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StringShape, StructureShape


class ServiceError(Exception):
    """A refusal as the service words it: an error code of its model, the HTTP status the model gives it, a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        """The status the model gives the code; 404 for an unknown operation, 400 for what no model names."""
        if self.code in service_model().shape_names:
            return int(service_model().shape_for(self.code).metadata["error"]["httpStatusCode"])
        return 404 if self.code == "UnknownOperationException" else 400


@functools.cache
def service_model() -> ServiceModel:
    """Return the Amazon Connect service model of the installed botocore."""
    return ServiceModel(Loader().load_service_model("connect", "service-2"), "connect")


@functools.cache
def reference_members() -> dict[str, str]:
    """Return the member of the ReferenceSummary union for each reference type: ``{"URL": "Url", …}``.

    Raises:
        LookupError: the model has a type without a member, so the naming rule used here no longer holds.
    """
    summary = service_model().shape_for("ReferenceSummary")
    members = {
        reference_type: "".join(word.capitalize() for word in reference_type.split("_"))
        for reference_type in service_model().shape_for("ReferenceType").metadata["enum"]
    }
    if not (isinstance(summary, StructureShape) and set(members.values()) <= set(summary.members)):
        raise LookupError(f"a reference type without a ReferenceSummary member, among {sorted(members)}")
    return members


def find_operation(method: str, path: str) -> tuple[OperationModel, dict[str, str]]:
    """Return the modelled operation at a path, and the path's labels, decoded.

    Raises:
        ServiceError: UnknownOperationException, no operation of Amazon Connect is there.
    """
    segments = path.split("/")
    for template, name in _routes().get((method, len(segments)), ()):
        labels = {}
        for expected, segment in zip(template, segments, strict=True):
            if expected.startswith("{"):
                labels[expected.strip("{}")] = unquote(segment)
            elif expected != segment:
                break
        else:
            return service_model().operation_model(name), labels
    raise ServiceError(
        "UnknownOperationException",
        f"Amazon Connect has no operation at {method} {path}; "
        "ListContactReferences, for example, is GET /contact/references/{InstanceId}/{ContactId}",
    )


@functools.cache
def _routes() -> dict[tuple[str, int], list[tuple[list[str], str]]]:
    """Return templates and operation names by method and segment count, the most literal template first."""
    routes: dict[tuple[str, int], list[tuple[list[str], str]]] = {}
    for name in service_model().operation_names:
        http = service_model().operation_model(name).http
        template = str(http["requestUri"]).partition("?")[0].split("/")
        routes.setdefault((http["method"], len(template)), []).append((template, name))
    for candidates in routes.values():
        candidates.sort(key=lambda candidate: sum(segment.startswith("{") for segment in candidate[0]))
    return routes


def parse_request(operation: OperationModel, labels: Mapping[str, str], query: str, body: bytes) -> dict[str, Any]:
    """Return an operation's parameters by their model names, each valid by the model: bounds, enums, patterns too.

    Members the model does not have are ignored, as the service ignores them; JSON null is an absent member.

    Raises:
        ServiceError: SerializationException for a body that is no JSON object, else InvalidParameterException, or
            InvalidRequestException of an operation whose model does not have that error.
    """
    shape = operation.input_shape
    if not isinstance(shape, StructureShape):
        return {}
    try:
        content = json.loads(body or b"{}")
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ServiceError("SerializationException", 'the body is not a JSON object, such as {"InstanceId": "…"}')
    queried = parse_qs(query, keep_blank_values=True)
    parameters: dict[str, Any] = {}
    for name, member in shape.members.items():
        key = member.serialization.get("name", name)
        match member.serialization.get("location"):
            case "uri":
                value: Any = labels.get(key)
            case "querystring":
                values = queried.get(key)
                value = values if values is None or member.type_name == "list" else values[0]
                # A query has text only; what is no number stays text, which the model then refuses.
                if member.type_name == "integer" and isinstance(value, str) and re.fullmatch("-?[0-9]{1,9}", value):
                    value = int(value)
            case _:
                value = content.get(key)
        if value is not None:
            parameters[name] = value
    _validate_parameters(operation, shape, parameters)
    return parameters


def _validate_parameters(operation: OperationModel, shape: StructureShape, parameters: Mapping[str, object]) -> None:
    try:
        validate(shape, parameters, "")
    except ServiceError as error:
        if error.code in {refusal.name for refusal in operation.error_shapes}:
            raise
        raise ServiceError("InvalidRequestException", error.message) from error


def validate(shape: Shape, value: object, name: str) -> None:
    """Refuse a value its shape does not allow. No refusal carries a value that could be personal data.

    Raises:
        ServiceError: InvalidParameterException naming the parameter and its bound, or the member that is missing.
    """
    types: dict[str, type | tuple[type, ...]] = {
        "string": str,
        "integer": int,
        "boolean": bool,
        "timestamp": (int, float),
        "list": list,
        "map": dict,
        "structure": dict,
    }
    expected = types[shape.type_name]
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        raise _invalid(name, f"must be a JSON {shape.type_name}, not {type(value).__name__}")
    size = len(value) if isinstance(value, str | list | dict) else value
    if isinstance(size, int) and shape.type_name != "timestamp":
        minimum, maximum = shape.metadata.get("min", -math.inf), shape.metadata.get("max", math.inf)
        if not minimum <= size <= maximum:
            raise _invalid(name, f"has a length or value of {size}, the model allows {minimum} to {maximum}")
    if isinstance(shape, StringShape) and isinstance(value, str):
        _validate_string(shape, value, name)
    elif isinstance(shape, ListShape) and isinstance(value, list):
        for index, item in enumerate(value):
            validate(shape.member, item, f"{name}[{index}]")
    elif isinstance(shape, MapShape) and isinstance(value, dict):
        for key, item in value.items():
            validate(shape.key, key, f"{name} key")
            validate(shape.value, item, f"{name}.{key[:50]}")
    elif isinstance(shape, StructureShape) and isinstance(value, dict):
        _validate_structure(shape, value, name)


def _validate_string(shape: StringShape, value: str, name: str) -> None:
    if shape.enum and value not in shape.enum:
        raise _invalid(name, f"must be one of {', '.join(shape.enum)}")
    # Python has no Unicode classes: "not a control character" is the one the model uses.
    pattern = shape.metadata.get("pattern", "").replace(r"\P{C}", r"[^\x00-\x1f\x7f-\x9f]")
    if pattern and not re.search(pattern, value):
        raise _invalid(name, f"must match {pattern}")


def _validate_structure(shape: StructureShape, value: Mapping[str, object], name: str) -> None:
    prefix = f"{name}." if name else ""
    for required in shape.required_members:
        if value.get(required) is None:
            raise _invalid(f"{prefix}{required}", "is required")
    for member_name, member in shape.members.items():
        if value.get(member_name) is not None:
            validate(member, value[member_name], f"{prefix}{member_name}")


def _invalid(name: str, problem: str) -> ServiceError:
    return ServiceError("InvalidParameterException", f"{name} {problem}")
