"""What the functions run: lambdas/ and its pinned dependencies, built into one directory without Docker."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aws_cdk as cdk
import jsii
from aws_cdk import aws_lambda as lambda_

LAMBDAS = Path(__file__).parent.parent / "lambdas"
LOCK_FILE = "requirements.txt"
SDK_SERVICES = ("connect", "dynamodb", "s3", "sqs")
"""Services whose API descriptions stay in the asset: a function can make no other client."""


def functions_code() -> lambda_.AssetCode:
    """Return the code that every function shares; its handlers are named `<folder>.handler.handler`.

    It is built at synth, and again only when its hash has changed or the cloud assembly was removed.
    """
    return lambda_.Code.from_asset(
        str(LAMBDAS),
        asset_hash_type=cdk.AssetHashType.CUSTOM,
        asset_hash=hash_inputs(LAMBDAS),
        bundling=cdk.BundlingOptions(image=cdk.DockerImage("unused"), local=_LocalBundling()),
    )


@jsii.implements(cdk.ILocalBundling)
class _LocalBundling:
    def try_bundle(self, output_dir: str, *_: object, **__: object) -> bool:
        build(source=LAMBDAS, target=Path(output_dir))
        return True  # never falls back to Docker: a failed build has raised


def hash_inputs(source: Path) -> str:
    """Return the SHA-256 of what `build` depends on: lock file, sources, this module, the bytecode's tag."""
    digest = hashlib.sha256((_bytecode_tag() or "no bytecode").encode())
    inputs = {"build": Path(__file__), LOCK_FILE: source / LOCK_FILE}
    inputs |= {path.relative_to(source).as_posix(): path for path in _source_files(source)}
    for name, path in inputs.items():
        content = path.read_bytes()
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def build(*, source: Path, target: Path) -> None:
    """Fill `target`, byte for byte the same wherever and whenever the inputs are the same.

    Raises:
        RuntimeError: pip failed (its own message follows), or something compiled for one platform got in.
    """
    _install(source / LOCK_FILE, target)
    _remove_what_differs(target)
    _prune_sdk(target)
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
        if path.is_file() and not is_stray and "__pycache__" not in relative.parts and relative != Path(LOCK_FILE):
            yield path


def _install(lock_file: Path, target: Path) -> None:
    # Wheels for any platform and the runtime's Python, whatever runs the synth.
    wheels = [
        "--only-binary=:all:",
        "--platform=any",
        "--implementation=py",
        "--abi=none",
        "--python-version=3.13",
    ]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-input"]
    command = [sys.executable, "-m", "pip", "install", *quiet, *wheels, "--no-deps", "--no-compile"]
    command += ["--target", str(target), "--requirement", str(lock_file)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"pip could not install {lock_file.name}:\n{finished.stderr.strip()}")
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


def _prune_sdk(target: Path) -> None:
    # The SDK describes some 400 services, in most of its bytes. The files beside their folders concern all.
    for data in (target / "botocore/data", target / "boto3/data"):
        for service in data.iterdir():
            if service.is_dir() and service.name not in SDK_SERVICES:
                shutil.rmtree(service)


def _bytecode_tag() -> str | None:
    # The runtime reads no other Python's bytecode.
    return tag if (tag := sys.implementation.cache_tag) == "cpython-313" else None


def _compile(target: Path) -> None:
    # Functions can't write bytecode: their file system is read-only. Unchecked, as dates mean nothing here.
    if _bytecode_tag() is None:
        return
    command = [sys.executable, "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(target), "-p", "/var/task", str(target)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})


def _fix_metadata(target: Path) -> None:
    # 1980 is where a zip file's calendar starts.
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (315_532_800, 315_532_800))
