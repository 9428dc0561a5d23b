"""AWS on this machine: ministack as a child process, and clients that can reach nothing else.

Where it differs from AWS, all in one place. The stacks themselves are the production ones: same template, same
asset.

| here | because |
|---|---|
| `POST /_local/service-events` puts events of AWS's own sources on the bus | services do that inside AWS; PutEvents refuses `aws.connect`, here too |
| an event gets its `time` and `id` when it is put, whatever its entry says | ministack; sending a file again is a new event |
| Amazon Connect is `connect_simulator`, which `AWS_ENDPOINT_URL_CONNECT` in the emulator's environment leads to | ministack has no Connect; functions inherit its environment |
| functions run as processes of this Python, with this virtual environment in reach | no containers; a dependency missing from the asset shows only in tests/infra |
| on a machine that is not Linux on x86_64 with Python 3.13, the tables function's DuckDB is the one for that machine | it is compiled, and functions are processes of this machine |
| Athena runs queries with DuckDB, which has most of Athena's dialect, and tells no bytes scanned | ministack |
| the batching window is ignored | ministack |
| IAM, KMS and queue policies are not enforced; a rule's dead-letter queue is never used | not in ministack's default mode; tests/permissions has IAM enforced, tests/infra asserts the rest on the template |
| a function's standard error is in the emulator's log file, not in its log group | ministack |
| nobody is told of alarms: `alarmEmail` is empty, whatever cdk.json says | ministack refuses the composite alarms of stack `ActNow` |
| a schedule runs first when its time has passed once, 15 minutes after a deployment by default | ministack; so neither the demo nor a test meets a run that it did not start |
| an exception is `Runtime.HandlerError` to whoever invoked, and the function's next invocation starts a new process | ministack |
"""  # noqa: E501 - rows of a table

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import boto3
import botocore.session

import ops.clients

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).resolve().parent.parent
ACCOUNT = "111122223333"
REGION = "us-east-1"
INSTANCE_ARN = f"arn:aws:connect:{REGION}:{ACCOUNT}:instance/12345678-1234-1234-1234-123456789012"
SERVICE_EVENTS_PATH = "/_local/service-events"


class LocalSystemError(RuntimeError):
    """The local system can't do what was asked; the message says all that a person needs."""


class Clients(ops.clients.Clients):
    """AWS clients for the emulator, and for Connect on its simulator.

    The only place in `local` that makes clients: each has an explicit endpoint and made-up credentials, and
    reads neither the developer's profile nor a proxy setting.
    """

    def __init__(self, *, aws_url: str, connect_url: str) -> None:
        nothing = botocore.session.Session(
            session_vars={
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
            }
        )
        session = boto3.Session(
            botocore_session=nothing,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - the emulator takes any
            region_name=REGION,
        )
        super().__init__(session, aws_url=aws_url, connect_url=connect_url)


def child_environment(aws_url: str) -> dict[str, str]:
    """This process's environment without anything of AWS, then with the emulator at `aws_url` as all of AWS.

    Proxies stay, because installing packages may need them, but not for this machine.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return inherited | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "AWS_ENDPOINT_URL": aws_url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


class Emulator:
    """A running ministack: `with Emulator(directory) as emulator: … emulator.url`.

    Listens on 127.0.0.1 only. Logs to `emulator.log` in the directory. On exit, whatever the reason, it is
    stopped together with the function processes it started; it also stops by itself when this process dies.
    """

    def __init__(self, directory: Path, *, port: int = 0, keep: bool = False, launcher: str = "local.launcher") -> None:
        """Take the port.

        Args:
            directory: for the log and all else it writes; made if it is not there.
            port: to listen on; if 0, a free one, or the one of the kept state, whose queues' URLs have it in them.
            keep: save all resources and data in `directory/state` at the end, and start from there.
            launcher: the module that is the emulator's process.

        Raises:
            LocalSystemError: the port is taken, or not the one of the kept state.
        """
        self._directory = directory
        self._keep = keep
        self._launcher = launcher
        port_file = directory / "state" / "port"
        kept_port = int(port_file.read_text()) if keep and port_file.exists() else port
        if port not in (0, kept_port):
            raise LocalSystemError(
                f"port {port}: the state in {port_file.parent} belongs to port {kept_port}; leave the port out, "
                "or delete that folder"
            )
        try:
            self._listener = socket.create_server(("127.0.0.1", kept_port))
        except OSError as error:
            raise LocalSystemError(
                f"port {kept_port} of 127.0.0.1: {error.strerror}; end what uses it, or leave --port out for a free one"
            ) from error
        self._process: subprocess.Popen[bytes] | None = None
        port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "emulator.log"
        if keep:
            port_file.parent.mkdir(parents=True, exist_ok=True)
            port_file.write_text(str(port))

    def __enter__(self) -> Self:
        return self

    def start(self, *, connect_url: str) -> None:
        """Start it with functions that find Amazon Connect at `connect_url`; returns when it answers.

        Raises:
            LocalSystemError: it ended or did not answer within a minute; the message shows the end of its log.
        """
        temporary = self._directory / "tmp"
        shutil.rmtree(temporary, ignore_errors=True)  # a killed run's functions
        temporary.mkdir(parents=True)
        state = (self._directory if self._keep else temporary) / "state"
        environment = child_environment(self.url) | {
            "AWS_ENDPOINT_URL_CONNECT": connect_url,
            "GATEWAY_PORT": self.url.rpartition(":")[2],
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "MINISTACK_REGION": REGION,
            "AUTH": "false",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            # It sweeps containers of earlier runs when it finds a Docker daemon: this system has none there.
            "DOCKER_HOST": f"unix://{temporary / 'none.sock'}",
            "TMPDIR": str(temporary),
            "PERSIST_STATE": str(int(self._keep)),
            "STATE_DIR": str(state),
            "S3_PERSIST": str(int(self._keep)),
            "S3_DATA_DIR": str(state / "s3"),
            "PYTHONUNBUFFERED": "1",
        }
        with self._listener, self.log.open("wb") as log:
            # Its own process group: Ctrl-C in a terminal reaches only this process, which then stops it.
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._launcher, str(self._listener.fileno())],
                cwd=ROOT,
                env=environment,
                pass_fds=[self._listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_for_health(self._process)

    def _wait_for_health(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            try:
                with direct_open(f"{self.url}/_ministack/health", timeout=5):
                    return
            except OSError:  # not listening yet
                time.sleep(0.05)
        tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])
        raise LocalSystemError(f"The AWS emulator did not start on {self.url}. The end of {self.log}:\n{tail}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self._listener.close()
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            print(f"The AWS emulator (process {process.pid}) did not end by itself: killed.", file=sys.stderr)
        finally:
            kill_group(process)  # functions in mid-invocation
            shutil.rmtree(self._directory / "tmp", ignore_errors=True)


def kill_group(process: "subprocess.Popen[Any]") -> None:
    """End a child that leads its own process group, and all in the group that are left."""
    with contextlib.suppress(ProcessLookupError):  # none is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def direct_open(request: str | urllib.request.Request, *, timeout: float) -> Any:
    """`urllib.request.urlopen` for this machine's own servers: never through a proxy.

    Raises:
        OSError: no answer, or `urllib.error.HTTPError` for one that is no success.
    """
    return _opener().open(request, timeout=timeout)


@cache
def _opener() -> urllib.request.OpenerDirector:
    # Once: each new one reads the certificates of all authorities.
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))
