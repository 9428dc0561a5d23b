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
    """A synthesized app, and the templates of its stacks."""

    app: Any
    storage: dict[str, Any]
    capture: dict[str, Any]
    reconcile: dict[str, Any]
    lookup: dict[str, Any]
    flow_designer: dict[str, Any] | None
    tables: dict[str, Any]
    monitoring: dict[str, Any]
    act_now: dict[str, Any] | None
    template_files: tuple[Path, ...]

    @property
    def templates(self) -> list[dict[str, Any]]:
        """The templates of all stacks that there are."""
        always = [self.storage, self.capture, self.reconcile, self.lookup, self.tables, self.monitoring]
        return always + [template for template in (self.flow_designer, self.act_now) if template]

    def only(self, kind: str, *, stack: str | None = None) -> dict[str, Any]:
        """The one resource of this type, in the stack that is named or in any."""
        (resource,) = self.all(kind, stack=stack).values()
        return resource

    def all(self, kind: str, *, stack: str | None = None) -> dict[str, dict[str, Any]]:
        """Logical id to resource of this type, in the stack that is named or in any."""
        templates = self.templates if stack is None else [getattr(self, stack)]
        resources = [item for template in templates for item in template["Resources"].items()]
        return {name: resource for name, resource in resources if resource["Type"] == kind}

    def policy(self, role: str) -> dict[str, Any]:
        """All that the role with this logical id may do, in one document, its references replaced."""
        policies = [each["Properties"] for each in self.all("AWS::IAM::Policy").values()]
        documents = [each["PolicyDocument"] for each in policies if each["Roles"] == [{"Ref": role}]]
        statements = [statement for document in documents for statement in document["Statement"]]
        return {"Version": "2012-10-17", "Statement": self.resolve(statements)}

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """Name to output, those that stacks export for each other included."""
        return {name: value for each in self.templates for name, value in each.get("Outputs", {}).items()}

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
                exports = {o["Export"]["Name"]: o["Value"] for o in self.outputs.values() if "Export" in o}
                resolved = self.resolve(exports[name])
            case {"Fn::Select": [index, {"Fn::Split": [separator, value]}]}:
                resolved = self.resolve(value).split(separator)[index]
            case {"Fn::GetAtt": [name, "Arn"]}:
                resolved = self._arn(name)
            case {"Fn::GetAtt": [name, _]}:
                resolved = name
            case {"Ref": name}:
                resolved = _PSEUDO_PARAMETERS.get(name, name)
            case _:
                resolved = {key: self.resolve(each) for key, each in value.items()}
        return resolved

    def _arn(self, name: str) -> str:
        (kind,) = [each["Resources"][name]["Type"] for each in self.templates if name in each["Resources"]]
        arn: str = {
            "AWS::SQS::Queue": "arn:aws:sqs:us-east-1:111122223333:{}",
            "AWS::S3::Bucket": "arn:aws:s3:::{}",
            "AWS::DynamoDB::Table": "arn:aws:dynamodb:us-east-1:111122223333:table/{}",
            "AWS::KMS::Key": "arn:aws:kms:us-east-1:111122223333:key/{}",
            "AWS::Logs::LogGroup": "arn:aws:logs:us-east-1:111122223333:log-group:{}:*",
            "AWS::IAM::Role": "arn:aws:iam::111122223333:role/{}",
            "AWS::Lambda::Function": "arn:aws:lambda:us-east-1:111122223333:function:{}",
            "AWS::CloudWatch::Alarm": "arn:aws:cloudwatch:us-east-1:111122223333:alarm:{}",
            "AWS::SNS::Topic": "arn:aws:sns:us-east-1:111122223333:{}",
        }[kind]
        return arn.format(name)


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
    return synthesize(context, tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="session")
def production(context: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """Every setting away from its default, given as `-c` gives it."""
    options = {
        "stage": "prod",
        "instanceArns": INSTANCE_ARN,
        "completionEventTypes": "COMPLETED,DISCONNECTED",
        "referenceTypes": '{"VOICE": ["URL"], "*": ["URL", "ATTACHMENT"]}',
        "auditShare": "0.125",
        "connectRequestsPerSecond": "40",
        "searchRequestsPerSecond": "0.5",
        "backfillShare": "0.25",
        "reconcileEveryMinutes": "1",
        "announce": "true",
        "retentionDays": "365",
        "alarmEmail": "contact-centre@example.com",
    }
    return synthesize({**context, **options}, tmp_path_factory.mktemp("production"))


def synthesize(context: dict[str, Any], outdir: Path) -> Deployment:
    """Synthesize the app with this context, as cdk.json and the command line give it."""
    import aws_cdk as cdk  # noqa: PLC0415 - it starts Node, which must find the PATH above

    from app import build  # noqa: PLC0415 - imports the same

    # Templates need no built asset: test_asset.py builds it.
    app = cdk.App(context={**context, "aws:cdk:bundling-stacks": []}, outdir=str(outdir))
    build(app)
    app.synth()
    prefix = f"ContactReferences-{context['stage']}-"
    files = {file.name.removeprefix(prefix).split(".")[0]: file for file in sorted(outdir.glob("*.template.json"))}
    templates = {name: json.loads(file.read_text()) for name, file in files.items()}
    return Deployment(
        app=app,
        storage=templates["Storage"],
        capture=templates["Capture"],
        reconcile=templates["Reconcile"],
        lookup=templates["Lookup"],
        flow_designer=templates.get("FlowDesigner"),  # where instances are named
        tables=templates["Tables"],
        monitoring=templates["Monitoring"],
        act_now=templates.get("ActNow"),  # where somebody is to be told
        template_files=tuple(files.values()),
    )
