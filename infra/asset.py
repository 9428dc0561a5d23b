"""What the functions run: lambdas/ and its pinned dependencies, built into one directory without Docker."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_
from botocore.loaders import Loader

LAMBDAS = Path(__file__).parent.parent / "lambdas"
LOCK_FILE = "requirements.txt"
TABLES_LOCK_FILE = "tables/requirements.txt"
LOCAL_WHEELS = "CONTACT_REFERENCES_LOCAL_WHEELS"
"""Set in the environment of a synth, it has DuckDB for this machine in the asset, not for Lambda's x86_64."""

_NOT_IN_THE_ASSET = {LOCK_FILE, "requirements.in"}
SDK_OPERATIONS = {
    "connect": {"ListContactReferences", "ListInstances", "SearchContacts"},
    "dynamodb": {"BatchGetItem", "BatchWriteItem", "PutItem", "Query", "UpdateItem"},
    "events": {"PutEvents"},
    "s3": {"HeadBucket", "PutObject"},  # the former is the SDK's own, to find a bucket's Region
    "sqs": {"ChangeMessageVisibility", "GetQueueAttributes", "SendMessage", "SendMessageBatch"},
}
"""What stays of the SDK's API descriptions: a function can make no other client, nor another call."""

TABLES_SDK_OPERATIONS = {
    "dynamodb": {"BatchGetItem", "Query", "UpdateItem"},
    "s3": {"DeleteObjects", "GetObject", "HeadBucket", "ListObjectVersions", "ListObjectsV2", "PutObject"},
}
"""What stays of them for the tables function, in an asset of its own."""

_UNUSED = (
    "aws_lambda_powertools/event_handler",
    "aws_lambda_powertools/utilities/[!_djt]*/",  # data_classes, jmespath_utils and typing stay
    "boto3/data",  # of boto3's resources
    "boto3/examples",
    "dateutil/zoneinfo",
)
"""Parts of the dependencies that no module of the functions imports, by size; globs."""

_EVENT_CLASSES = "aws_lambda_powertools/utilities/data_classes"
_USED_EVENT_CLASSES = {"common.py", "connect_contact_flow_event.py", "shared_functions.py"}

# Wheels for any platform and the runtime's Python, whatever runs the synth.
_PURE_WHEELS = ["--platform=any", "--implementation=py", "--abi=none", "--python-version=3.13"]


def functions_code() -> lambda_.AssetCode:
    """Return the code that every function shares but one; its handlers are named `<folder>.handler.handler`.

    It is built at synth, and again only when its hash has changed or the cloud assembly was removed.
    """
    return _code(with_duckdb=False)


def tables_code() -> lambda_.AssetCode:
    """Return the code of the tables function: the same with DuckDB, which is compiled, for x86_64."""
    return _code(with_duckdb=True)


def _code(*, with_duckdb: bool) -> lambda_.AssetCode:
    return lambda_.Code.from_asset(
        str(LAMBDAS),
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        asset_hash=hash_inputs(LAMBDAS, with_duckdb=with_duckdb),
        bundling=cdk.BundlingOptions(image=cdk.DockerImage("unused"), local=_LocalBundling(with_duckdb)),
    )


@jsii.implements(cdk.ILocalBundling)
class _LocalBundling:
    def __init__(self, with_duckdb: bool) -> None:
        self._with_duckdb = with_duckdb

    def try_bundle(self, output_dir: str, *_: object, **__: object) -> bool:
        build(source=LAMBDAS, target=Path(output_dir), with_duckdb=self._with_duckdb)
        return True  # never falls back to Docker: a failed build has raised


def hash_inputs(source: Path, *, with_duckdb: bool = False) -> str:
    """Return the SHA-256 of what `build` depends on: lock files, sources, this module, the bytecode's tag."""
    digest = hashlib.sha256((_bytecode_tag() or "no bytecode").encode())
    inputs = {"build": Path(__file__), LOCK_FILE: source / LOCK_FILE}
    if with_duckdb:
        inputs[TABLES_LOCK_FILE] = source / TABLES_LOCK_FILE
        digest.update(repr(_platform_wheels()).encode())
    inputs |= {path.relative_to(source).as_posix(): path for path in _source_files(source)}
    for name, path in inputs.items():
        content = path.read_bytes()
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def build(*, source: Path, target: Path, with_duckdb: bool = False) -> None:
    """Fill `target`, byte for byte the same wherever and whenever the inputs are the same.

    Raises:
        RuntimeError: pip failed (its own message follows), or something compiled for one platform got in.
    """
    _install(source / LOCK_FILE, target, _PURE_WHEELS)
    _refuse_binaries(source / LOCK_FILE, target)
    if with_duckdb:
        _install(source / TABLES_LOCK_FILE, target, _platform_wheels())
    _remove_what_differs(target)
    _remove_what_is_unused(target)
    _prune_sdk(target / "botocore/data", TABLES_SDK_OPERATIONS if with_duckdb else SDK_OPERATIONS)
    _compile_away(target)
    for path in _source_files(source):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    _compile(target)
    _fix_metadata(target)


def _source_files(source: Path) -> Iterator[Path]:
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        is_stray = path.suffix == ".pyc" or any(part.startswith(".") for part in relative.parts)
        is_stray = is_stray or "__pycache__" in relative.parts or path.name in _NOT_IN_THE_ASSET
        if path.is_file() and not is_stray:
            yield path


def _platform_wheels() -> list[str]:
    if os.environ.get(LOCAL_WHEELS):
        return []
    return ["--platform=manylinux_2_28_x86_64", "--implementation=cp", "--python-version=3.13"]


def _install(lock_file: Path, target: Path, wheels: list[str]) -> None:
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "install", *quiet, "--only-binary=:all:", *wheels, "--no-deps"]
    command += ["--no-compile", "--require-hashes", "--target", str(target), "--requirement", str(lock_file)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"pip could not install {lock_file.name}:\n{finished.stderr.strip()}")


def _refuse_binaries(lock_file: Path, target: Path) -> None:
    if binaries := sorted(path for path in target.rglob("*") if path.suffix in {".so", ".pyd", ".dylib"}):
        raise RuntimeError(
            f"{binaries[0].relative_to(target)} runs on one platform only; the functions need pure Python, "
            f"as jmespath is: replace what {lock_file.name} names for it"
        )


def _remove_what_differs(target: Path) -> None:
    # What pip writes about this installation and this machine, which nothing reads at run time.
    shutil.rmtree(target / "bin", ignore_errors=True)
    for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
        for path in target.glob(f"*.dist-info/{name}"):
            path.unlink()


def _remove_what_is_unused(target: Path) -> None:
    for pattern in _UNUSED:
        unused = list(target.glob(pattern))
        if not unused:
            raise RuntimeError(f"there is no {pattern} to remove from the asset: has a dependency changed?")
        for path in unused:
            shutil.rmtree(path)
    _remove_event_classes(target / _EVENT_CLASSES)


def _remove_event_classes(folder: Path) -> None:
    # The package imports all of its modules, of which one is used: a twentieth of a start.
    if missing := _USED_EVENT_CLASSES - {path.name for path in folder.iterdir()}:
        raise RuntimeError(f"there is no {', '.join(sorted(missing))} in {_EVENT_CLASSES}: has a dependency changed?")
    for path in list(folder.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in _USED_EVENT_CLASSES:
            path.unlink()
    (folder / "__init__.py").write_text("")


def _prune_sdk(data: Path, kept: Mapping[str, Collection[str]]) -> None:
    """Cut the SDK's descriptions of some 400 services, most of its bytes and of its time to start, to what is used.

    They become plain JSON: no slower to read, and the same bytes whichever zlib writes them.
    """
    loader = Loader([str(data)], include_default_search_paths=False)
    descriptions = {}
    for service, operations in kept.items():
        folder = f"{service}/{loader.determine_latest_version(service, 'service-2')}"
        model, paginators, rules = (
            loader.load_service_model(service, kind) for kind in ("service-2", "paginators-1", "endpoint-rule-set-1")
        )
        descriptions[f"{folder}/service-2.json"] = _prune_model(model, operations)
        descriptions[f"{folder}/paginators-1.json"] = {"pagination": _pick(paginators["pagination"], operations)}
        descriptions[f"{folder}/endpoint-rule-set-1.json"] = rules
    endpoints = descriptions["endpoints.json"] = loader.load_data("endpoints")
    for partition in endpoints["partitions"]:
        partition["services"] = _pick(partition["services"], kept)
    for path in list(data.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
    for name, description in descriptions.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text(json.dumps(description, separators=(",", ":")), encoding="utf-8")


def _prune_model(model: Mapping[str, Any], operations: Collection[str]) -> dict[str, Any]:
    """Return the model with these operations, all errors and the shapes that these reach, without documentation."""
    kept = _pick(model["operations"], operations)
    if missing := set(operations) - kept.keys():
        raise RuntimeError(f"{model['metadata']['serviceId']} has no {', '.join(sorted(missing))}")
    # Any call may be answered with an error that the model gives to other operations only.
    errors = {name for name, shape in model["shapes"].items() if shape.get("exception")}
    shapes, waiting = set(), errors | set(_shape_names(kept))
    while waiting:
        shapes |= waiting
        waiting = {name for shape in waiting for name in _shape_names(model["shapes"][shape])} - shapes
    # The SDK reads the documentation of the parts besides, at the first call.
    parts = _without_documentation({"operations": kept, "shapes": _pick(model["shapes"], shapes)})
    return {**model, **cast("dict[str, Any]", parts)}


def _pick(things: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: thing for name, thing in things.items() if name in names}


def _shape_names(description: object) -> Iterator[str]:
    # Wherever it stands, {"shape": "Name"} refers to a shape. A member called `shape` has a description, not a name.
    if isinstance(description, dict):
        if isinstance(name := description.get("shape"), str):
            yield name
        description = list(description.values())
    if isinstance(description, list):
        for part in description:
            yield from _shape_names(part)


def _without_documentation(description: object) -> object:
    if isinstance(description, list):
        return [_without_documentation(part) for part in description]
    if isinstance(description, dict):
        return {
            name: _without_documentation(part)
            for name, part in description.items()
            if name != "documentation" or isinstance(part, dict)  # a member called so
        }
    return description


def _bytecode_tag() -> str | None:
    # The runtime reads no other Python's bytecode.
    return tag if (tag := sys.implementation.cache_tag) == "cpython-313" else None


def _compile_away(target: Path) -> None:
    # Of the dependencies only the bytecode runs. Without their sources, a fourth of the asset, tracebacks have the
    # file, the line's number and the function, but don't quote the line.
    if _bytecode_tag() is not None:
        _compile(target, "-b")
        for path in target.rglob("*.py"):
            path.unlink()


def _compile(target: Path, *options: str) -> None:
    # Functions can't write bytecode: their file system is read-only. Unchecked, as dates mean nothing here.
    if _bytecode_tag() is not None:
        command = [sys.executable, "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *options]
        command += ["-s", str(target), "-p", "/var/task", str(target)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})


def _fix_metadata(target: Path) -> None:
    # 1980 is where a zip file's calendar starts.
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (315_532_800, 315_532_800))
