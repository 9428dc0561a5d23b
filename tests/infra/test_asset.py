import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.asset import (
    LAMBDAS,
    LOCAL_WHEELS,
    SDK_OPERATIONS,
    TABLES_LOCK_FILE,
    TABLES_SDK_OPERATIONS,
    build,
    hash_inputs,
)

# One call to each service, answered on loopback, and the handlers' own imports: with nothing installed but the asset.
PROBE = """
import http.server, importlib, json, os, sys, threading

asset, handlers = sys.argv[1], sys.argv[2].split(",")
sys.path[:0] = [asset]

class Answer(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"{}")
    do_POST = do_GET
    def do_PUT(self):  # S3's, which speaks no JSON
        self.answer(b"")
    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()

import boto3
endpoint = f"http://127.0.0.1:{server.server_port}"
calls = {
    "connect": lambda c: c.list_contact_references(InstanceId="i", ContactId="c", ReferenceTypes=["URL"]),
    "dynamodb": lambda c: c.query(TableName="table", KeyConditionExpression="pk = :pk"),
    "events": lambda c: c.put_events(Entries=[{"Source": "s", "DetailType": "t", "Detail": "{}"}]),
    "s3": lambda c: c.put_object(Bucket="bucket", Key="key", Body=b""),
    "sqs": lambda c: c.send_message(QueueUrl=endpoint + "/q", MessageBody="m"),
}
report = {"resolved": {}, "statuses": {}}
for service in sys.argv[3].split(","):
    call = calls[service]
    report["resolved"][service] = boto3.client(service).meta.endpoint_url
    answer = call(boto3.client(service, endpoint_url=endpoint))
    report["statuses"][service] = answer["ResponseMetadata"]["HTTPStatusCode"]
for name in handlers:
    importlib.import_module(name)
report["outside"] = sorted(
    {m.__file__ for m in list(sys.modules.values()) if "site-packages" in (getattr(m, "__file__", None) or "")}
)
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def asset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("asset")
    build(source=LAMBDAS, target=target)
    return target


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of lambdas/ to change."""
    copy = tmp_path / "lambdas"
    shutil.copytree(LAMBDAS, copy)
    return copy


def contents(asset: Path) -> Iterator[tuple[str, int, float, bytes]]:
    for path in sorted(asset.rglob("*")):
        status = path.stat()
        yield str(path.relative_to(asset)), status.st_mode, status.st_mtime, b"" if path.is_dir() else path.read_bytes()


def test_two_builds_are_the_same_to_the_byte(asset: Path, sources: Path, tmp_path: Path) -> None:
    stray = sources / "capture" / "__pycache__" / "stray.cpython-313.pyc"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    again = tmp_path / "elsewhere" / "again"
    again.mkdir(parents=True)
    umask = os.umask(0o077)
    try:
        build(source=sources, target=again)
    finally:
        os.umask(umask)

    assert list(contents(again)) == list(contents(asset))


HANDLERS = {f"{path.parent.name}.handler" for path in LAMBDAS.glob("*/handler.py")}


def probe(asset: Path, handlers: set[str], services: Iterable[str]) -> dict[str, Any]:
    """Import handlers and make a call to each service, with nothing installed but an asset."""
    environment = {
        "AWS_ACCESS_KEY_ID": "synthetic",
        "AWS_SECRET_ACCESS_KEY": "synthetic",
        "AWS_DEFAULT_REGION": "us-east-1",
        "POWERTOOLS_SERVICE_NAME": "contact-references",
        "POWERTOOLS_METRICS_NAMESPACE": "ContactReferences",
    }
    finished = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", PROBE, str(asset), ",".join(sorted(handlers)), ",".join(services)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    report: dict[str, Any] = json.loads(finished.stdout)
    return report


def test_the_asset_runs_with_nothing_else_installed(asset: Path) -> None:
    report = probe(asset, HANDLERS - {"tables.handler"}, SDK_OPERATIONS)

    assert report["statuses"] == dict.fromkeys(SDK_OPERATIONS, 200)
    assert report["resolved"]["connect"] == "https://connect.us-east-1.amazonaws.com"
    assert report["outside"] == []


@pytest.mark.skipif(
    (sys.platform, platform.machine(), sys.version_info[:2]) != ("linux", "x86_64", (3, 13)),
    reason="it is made for Lambda's x86_64 and Python 3.13 and runs there only",
)
def test_the_tables_function_s_asset_runs_with_nothing_else_installed(tmp_path: Path) -> None:
    build(source=LAMBDAS, target=tmp_path, with_duckdb=True)
    report = probe(tmp_path, {"tables.handler"}, TABLES_SDK_OPERATIONS)

    assert report["statuses"] == dict.fromkeys(TABLES_SDK_OPERATIONS, 200)
    assert report["outside"] == []
    # Lambda takes 250 MB, unpacked.
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 100 * 2**20


def test_the_tables_function_s_asset_is_for_lambda_unless_a_local_deployment_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hashes = [hash_inputs(LAMBDAS), hash_inputs(LAMBDAS, with_duckdb=True)]
    monkeypatch.setenv(LOCAL_WHEELS, "1")

    assert len({*hashes, hash_inputs(LAMBDAS), hash_inputs(LAMBDAS, with_duckdb=True)}) == 3


@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("platform_tag", ["manylinux_2_28_aarch64", "macosx_11_0_arm64"])
def test_the_lock_has_duckdb_for_the_machines_that_deploy_locally(platform_tag: str, python: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--report=-", "--target=unused", "--no-deps"]
    command += ["--quiet", "--disable-pip-version-check", "--no-input", "--only-binary=:all:", "--require-hashes"]
    command += [f"--platform={platform_tag}", "--implementation=cp", f"--python-version={python}"]
    finished = subprocess.run(
        [*command, "--requirement", str(LAMBDAS / TABLES_LOCK_FILE)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    [wheel] = [Path(each["download_info"]["url"]).name for each in json.loads(finished.stdout)["install"]]
    assert wheel.startswith("duckdb-")
    assert platform_tag in wheel


def test_the_tables_function_s_wheels_are_lambda_s_unless_a_local_deployment_asks_for_this_machine_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    this_machine = re.sub(r"[-.]", "_", sysconfig.get_platform())
    tags = {
        "pure.py": "py3-none-any",
        "lambda.so": "py3-none-manylinux_2_28_x86_64",
        "local.so": f"{interpreter}-{interpreter}-{this_machine}",
    }
    locks = {"requirements.txt": ["pure.py"], TABLES_LOCK_FILE: ["lambda.so", "local.so"]}
    for lock, contents in locks.items():
        wheels = (tmp_path / lock).with_suffix("")
        wheels.mkdir(parents=True)
        hashes = " ".join(f"--hash={synthetic_wheel(wheels, content, tag=tags[content])}" for content in contents)
        (tmp_path / lock).write_text(f"--no-index\n--find-links {wheels}\nsynthetic==1.0 {hashes}\n")

    for target, is_local in {"for lambda": "", "for this machine": "1"}.items():
        monkeypatch.setenv(LOCAL_WHEELS, is_local)
        with pytest.raises(RuntimeError, match="to remove from the asset"):  # after installing: it is no asset
            build(source=tmp_path, target=tmp_path / target, with_duckdb=True)

    assert {path.name for path in tmp_path.glob("for lambda/*.so")} == {"lambda.so"}
    assert {path.name for path in tmp_path.glob("for this machine/*.so")} == {"local.so"}


def test_the_asset_holds_what_runs_and_nothing_that_differs_by_machine(asset: Path) -> None:
    names = {path.name for path in asset.rglob("*")}

    assert {"handler.py", "contact_references"} <= names
    assert not names & {
        "RECORD",
        "INSTALLER",
        "REQUESTED",
        "direct_url.json",
        "bin",
        "requirements.txt",
        "requirements.in",
    }
    assert {path.name for path in (asset / "botocore/data").iterdir() if path.is_dir()} == set(SDK_OPERATIONS)
    assert {path.stat().st_mtime for path in asset.rglob("*")} == {315_532_800}


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="only the runtime's own Python can compile for it")
def test_every_module_is_compiled_and_its_bytecode_is_not_checked_against_dates(asset: Path) -> None:
    for module in asset.rglob("*.py"):
        assert (module.parent / "__pycache__" / f"{module.stem}.cpython-313.pyc").exists(), module
    bytecodes = list(asset.rglob("*.pyc"))
    assert {"botocore/client.pyc", "six.pyc"} <= {path.relative_to(asset).as_posix() for path in bytecodes}
    for bytecode in bytecodes:
        # PEP 552: bit 0 of the flags says hash-based, bit 1 says checked.
        assert int.from_bytes(bytecode.read_bytes()[4:8], "little") == 0b01, bytecode


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="without bytecode the sources stay")
def test_only_the_functions_own_sources_are_there_to_be_quoted(asset: Path) -> None:
    own = {path.relative_to(LAMBDAS) for path in LAMBDAS.rglob("*.py")}

    assert {path.relative_to(asset) for path in asset.rglob("*.py")} == own


def test_the_asset_is_small(asset: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "asset"), "zip", asset)

    assert Path(archive).stat().st_size < 2.5 * 2**20


def test_what_pip_complains_of_is_shown(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(f"--no-index\nno-such-package==1.0 --hash=sha256:{'0' * 64}\n")

    with pytest.raises(RuntimeError, match=r"(?s)pip could not install requirements\.txt.*no-such-package==1\.0"):
        build(source=tmp_path, target=tmp_path / "target")


def synthetic_wheel(folder: Path, content: str, tag: str = "py3-none-any") -> str:
    """Write a wheel with one file, and return the hash that a lock has of it."""
    wheel = folder / f"synthetic-1.0-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(content, b"")
        archive.writestr("synthetic-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: synthetic\nVersion: 1.0\n")
        archive.writestr("synthetic-1.0.dist-info/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr("synthetic-1.0.dist-info/RECORD", "")
    return "sha256:" + hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_a_dependency_for_one_platform_is_refused(tmp_path: Path) -> None:
    locked = synthetic_wheel(tmp_path, "synthetic/fast.so")
    (tmp_path / "requirements.txt").write_text(f"--no-index\n--find-links {tmp_path}\nsynthetic==1.0 --hash={locked}\n")

    with pytest.raises(RuntimeError, match=r"^synthetic/fast\.so runs on one platform only"):
        build(source=tmp_path, target=tmp_path / "target")


@pytest.mark.parametrize(
    ("hashes", "message"),
    [("", "--require-hashes mode"), (f" --hash=sha256:{'0' * 64}", "DO NOT MATCH THE HASHES")],
    ids=["without a hash", "with another's hash"],
)
def test_what_the_lock_does_not_know_by_its_hash_is_refused(tmp_path: Path, hashes: str, message: str) -> None:
    synthetic_wheel(tmp_path, "synthetic/pure.py")
    (tmp_path / "requirements.txt").write_text(f"--no-index\n--find-links {tmp_path}\nsynthetic==1.0{hashes}\n")

    with pytest.raises(RuntimeError, match=message):
        build(source=tmp_path, target=tmp_path / "target")


def test_stray_files_do_not_change_the_hash(sources: Path) -> None:
    before = hash_inputs(sources)
    (sources / "capture" / "__pycache__").mkdir(exist_ok=True)
    (sources / "capture" / "__pycache__" / "stray.cpython-313.pyc").write_bytes(b"stray")
    (sources / ".DS_Store").write_bytes(b"stray")

    assert hash_inputs(sources) == before == hash_inputs(LAMBDAS)


@pytest.mark.parametrize("name", ["requirements.txt", "capture/handler.py"])
def test_a_changed_input_changes_the_hash(sources: Path, name: str) -> None:
    before = hash_inputs(sources)
    with (sources / name).open("a") as file:
        file.write("# changed\n")

    assert hash_inputs(sources) != before


def test_a_renamed_module_changes_the_hash(sources: Path) -> None:
    before = hash_inputs(sources)
    (sources / "capture" / "handler.py").rename(sources / "capture" / "other.py")

    assert hash_inputs(sources) != before


def test_without_the_runtime_s_python_the_hash_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hash_inputs(LAMBDAS)
    other = "cpython-312" if sys.version_info[:2] == (3, 13) else "cpython-313"
    monkeypatch.setattr(sys.implementation, "cache_tag", other)

    assert hash_inputs(LAMBDAS) != before
