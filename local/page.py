"""Takes a picture of the operator's page: `python -m local.page PICTURE`, with Debian's Chromium.

It starts a system, and has a made-up contact captured three times: what the picture shows is what the deployed function
captured, and what changed from one capture to the next.
"""

import shutil
import sys
import threading
import time
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import sync_playwright

from local.emulator import INSTANCE_ARN, LocalSystemError
from local.system import Json, System, start
from ops.capture import capture_contact
from ops.view import listen, make_server

_INSTANCE_ID = INSTANCE_ARN.rpartition("/")[2]
_CONTACT_ID = "f0000000-0000-4000-8000-00000000000f"
_WIDTH = 1000
_COLORS = 64  # as good to look at, and a third of the size
_SECONDS_BETWEEN = 2

_CRM = {"Url": {"Name": "CRM account", "Value": "https://crm.example.com/accounts/1042?tab=calls"}}
_TOTAL = {"Number": {"Name": "Invoice total", "Value": "199.90"}}
_EMAIL = {"Email": {"Name": "Customer email", "Value": "Jane.Doe@Example.com"}}
_NAME = {"String": {"Name": "Customer name", "Value": "Zoë <b>Müller</b>\u202e"}}
_DUE = {"Date": {"Name": "Due", "Value": "2026-04-01"}}
_LENS = {
    "ContactAnalysis": {
        "Name": "ContactLens",
        "Value": "s3://amazon-connect-example/Analysis/Voice/2026/03/02/analysis.json",
        "Status": "AVAILABLE",
    }
}


def _photo(status: str, signature: str) -> Json:
    value = f"https://amazon-connect-example.s3.us-east-1.amazonaws.com/photo.png?X-Amz-Signature={signature}"
    arn = f"{INSTANCE_ARN}/file/f1000000-0000-4000-8000-00000000000f"
    return {"Attachment": {"Name": "photo.png", "Value": value, "Status": status, "Arn": arn}}


_READINGS: tuple[list[Json], ...] = (
    [_CRM, _TOTAL, _EMAIL, _NAME, _photo("PROCESSING", "first")],
    [_CRM, _TOTAL, _EMAIL, _NAME, _photo("APPROVED", "second"), _LENS],
    [_CRM, _TOTAL, _EMAIL, _NAME, _photo("APPROVED", "third"), _LENS, _DUE],
)
"""What Connect says of the contact, each time that it is read."""


def capture(system: System) -> None:
    """Have the contact captured; raises LocalSystemError if it is not."""
    [instance] = system.deployment.instances(INSTANCE_ARN)
    for references in _READINGS:
        contact = {
            "Id": _CONTACT_ID,
            "InstanceId": _INSTANCE_ID,
            "Channel": "VOICE",
            "InitiationMethod": "INBOUND",
            "DisconnectTimestamp": "2026-03-02T09:41:17.508Z",
            "References": references,
        }
        system.control_connect("contacts", {"contacts": [contact], "settle_seconds": 3600})
        captured = capture_contact(system.deployment, instance, _CONTACT_ID, "picture")
        if captured.outcome != "captured":
            raise LocalSystemError(f"the contact is not captured: {captured.reason}")
        time.sleep(_SECONDS_BETWEEN)  # a report is covered for a second after it was read


def take(system: System, picture: Path) -> None:
    """Take the picture of the contact's page."""
    with listen(0) as listening, sync_playwright() as playwright:
        port = listening.getsockname()[1]
        server = make_server(system.deployment, listening, program="python -m local")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        try:
            page = browser.new_page(viewport={"width": _WIDTH, "height": 800})
            page.goto(f"http://127.0.0.1:{port}/contacts/{_INSTANCE_ID}/{_CONTACT_ID}")
            content = page.screenshot(full_page=True)
        finally:
            browser.close()
            server.should_exit = True
            thread.join()
    with Image.open(BytesIO(content)) as image:
        image.quantize(_COLORS).save(picture, optimize=True)


if __name__ == "__main__":
    with TemporaryDirectory() as directory, start(Path(directory), report=print) as running:
        capture(running)
        take(running, Path(sys.argv[1]))
