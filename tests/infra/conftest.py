"""Synthesizes the app once for each deployment that the tests look at."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

# The CDK's library starts a Node: the pinned one, which lies beside this Python, before any the machine has.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

INSTANCE_ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"


@dataclass(frozen=True)
class Deployment:
    """A synthesized app, and the templates of its two stacks."""

    app: Any
    storage: dict[str, Any]
    capture: dict[str, Any]
    template_files: tuple[Path, Path]

    def only(self, kind: str) -> dict[str, Any]:
        """The one resource of this type, in either stack."""
        (resource,) = self.all(kind).values()
        return resource

    def all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Logical id to resource of this type, in either stack."""
        resources = {**self.storage["Resources"], **self.capture["Resources"]}
        return {name: resource for name, resource in resources.items() if resource["Type"] == kind}

    def resolve(self, value: Any) -> Any:
        """The value with its references replaced: pseudo parameters as in the local system, names by ids."""
        if isinstance(value, list):
            return [self.resolve(each) for each in value]
        if not isinstance(value, dict):
            return value
        match value:
            case {"Fn::Join": [separator, parts]}:
                resolved: Any = separator.join(map(self.resolve, parts))
            case {"Fn::ImportValue": name}:
                outputs = self.storage["Outputs"].values()
                resolved = self.resolve({o["Export"]["Name"]: o["Value"] for o in outputs if "Export" in o}[name])
            case {"Fn::GetAtt": [name, "Arn"]}:
                resolved = self._arn(name)
            case {"Ref": name}:
                resolved = _PSEUDO_PARAMETERS.get(name, name)
            case _:
                resolved = {key: self.resolve(each) for key, each in value.items()}
        return resolved

    def _arn(self, name: str) -> str:
        kind = {**self.storage["Resources"], **self.capture["Resources"]}[name]["Type"]
        return {
            "AWS::SQS::Queue": "arn:aws:sqs:us-east-1:111122223333:{}",
            "AWS::Events::Rule": "arn:aws:events:us-east-1:111122223333:rule/{}",
            "AWS::S3::Bucket": "arn:aws:s3:::{}",
            "AWS::DynamoDB::Table": "arn:aws:dynamodb:us-east-1:111122223333:table/{}",
            "AWS::KMS::Key": "arn:aws:kms:us-east-1:111122223333:key/{}",
            "AWS::Logs::LogGroup": "arn:aws:logs:us-east-1:111122223333:log-group:{}:*",
            "AWS::IAM::Role": "arn:aws:iam::111122223333:role/{}",
        }[kind].format(name)


_PSEUDO_PARAMETERS = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "111122223333",
    "AWS::URLSuffix": "amazonaws.com",
}


@pytest.fixture(scope="session")
def context() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    return loaded


@pytest.fixture(scope="session")
def default(context: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    return _synthesize(context, tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="session")
def production(context: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Every setting away from its default, given as `-c` gives it."""
    options = {
        "stage": "prod",
        "instanceArns": INSTANCE_ARN,
        "completionEventTypes": "COMPLETED,DISCONNECTED",
        "referenceTypes": "URL,ATTACHMENT",
        "connectRequestsPerSecond": "40",
        "retentionDays": "365",
        "alarmEmail": "contact-centre@example.com",
    }
    return _synthesize({**context, **options}, tmp_path_factory.mktemp("production"))


def _synthesize(context: dict[str, Any], outdir: Path) -> Deployment:
    import aws_cdk as cdk  # noqa: PLC0415 - it starts Node, which must find the PATH above

    from app import build  # noqa: PLC0415 - imports the same

    # Templates need no built asset: test_asset.py builds it.
    app = cdk.App(context={**context, "aws:cdk:bundling-stacks": []}, outdir=str(outdir))
    build(app)
    app.synth()
    storage, capture = (
        outdir / f"ContactReferences-{context['stage']}-{name}.template.json" for name in ("Storage", "Capture")
    )
    return Deployment(app, json.loads(storage.read_text()), json.loads(capture.read_text()), (storage, capture))
