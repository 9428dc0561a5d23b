"""A deployed system: found in an AWS account by its stacks' outputs, or handed in by the local system."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple

import boto3
import typer

from contact_references.aws.search import find_instances
from contact_references.model.contact import Instance
from contact_references.model.environment import read_instances
from ops.clients import Clients
from ops.errors import OpsError

_PREFIX = "ContactReferences"


InstanceOption = Annotated[str | None, typer.Option(metavar="ARN|ID", help="Only this Connect instance.")]


class Messages(NamedTuple):
    """Messages of a queue, about; `in_flight` are worked on or being read, or wait after a failure."""

    waiting: int
    in_flight: int
    delayed: int


@dataclass(frozen=True)
class Deployment:
    """A stage's deployment: its clients, and its stacks' outputs by name (`TableName`, `QueueUrl`, …)."""

    stage: str
    clients: Clients
    outputs: Mapping[str, str]

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """The environment variables that the capture function was deployed with; raises OpsError if they are hidden."""
        name = self.output("CaptureFunctionName")
        environment = self.clients.functions.get_function_configuration(FunctionName=name).get("Environment", {})
        if "Variables" not in environment:  # Lambda answers all the same if it may not decrypt them
            raise OpsError(f"your AWS role may not see the environment variables of {name}: ask for kms:Decrypt")
        return environment["Variables"]

    def instances(self, named: str | None = None) -> list[Instance]:
        """Return the instances that are captured, or the one of them that is named by its ARN or id.

        Raises:
            OpsError: there is none by that name.
            CaptureError: Connect cannot be asked.
        """
        captured = read_instances(self.settings) or find_instances(self.clients.connect)
        instances = sorted(captured, key=lambda instance: instance.instance_id)
        if named is None:
            return instances
        for instance in instances:
            if named in {instance.arn, instance.instance_id}:
                return [instance]
        there = f"there are {', '.join(instance.instance_id for instance in instances)}"
        raise OpsError(f"instance {named} is not captured: {there if instances else 'there is none'}")

    def count_messages(self, queue: str) -> Messages:
        """Return how many messages a queue has, named by the output with its URL; raises ClientError, BotoCoreError."""
        answer = self.clients.sqs.get_queue_attributes(
            QueueUrl=self.output(queue),
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            ],
        )
        counts = answer["Attributes"]
        return Messages(
            waiting=int(counts["ApproximateNumberOfMessages"]),
            in_flight=int(counts["ApproximateNumberOfMessagesNotVisible"]),
            delayed=int(counts["ApproximateNumberOfMessagesDelayed"]),
        )

    def output(self, name: str) -> str:
        """Return an output's value; raises OpsError if the deployment has none by this name."""
        try:
            return self.outputs[name]
        except KeyError:
            raise OpsError(
                f"the deployment {self.stage} has no output {name}: deploy the present version with `npx cdk deploy "
                f"--all -c stage={self.stage}`"
            ) from None


def find_deployment(stage: str, *, profile: str | None = None, region: str | None = None) -> Deployment:
    """Return the deployment of a stage; profile and Region are those that the SDK finds unless they are named.

    Raises:
        OpsError: there is no such deployment.
        BotoCoreError, ClientError: AWS cannot be asked.
    """
    session = boto3.Session(profile_name=profile, region_name=region)
    clients = Clients(session)
    outputs: dict[str, str] = {}
    stages: set[str] = set()
    for page in clients.cloudformation.get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            prefix, _, rest = stack["StackName"].partition("-")
            found, _, _ = rest.rpartition("-")
            if prefix != _PREFIX or not found or stack["StackStatus"] == "DELETE_COMPLETE":
                continue
            stages.add(found)
            if found == stage:
                outputs |= {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    if stage not in stages:
        there = f"there are {', '.join(sorted(stages))}" if stages else "there is none of any stage"
        raise OpsError(
            f"no deployment of stage {stage} in {session.region_name}: {there}. Name another with --stage, --region or "
            f"--profile, or deploy it: `npx cdk deploy --all -c stage={stage}`"
        )
    return Deployment(stage, clients, outputs)


FindDeployment = Callable[[], Deployment]
"""What a program puts into its context's `obj`: a command that needs the deployment looks for it when it runs."""


def deployment_of(context: typer.Context) -> Deployment:
    """Return the deployment that the program's own options name; raises OpsError if there is none."""
    find: FindDeployment = context.obj
    return find()


def program_of(context: typer.Context, deployment: Deployment) -> str:
    """Return what a person types before a command, to be told another one that acts on the same deployment."""
    root = context.find_root()
    stage = ["--stage", deployment.stage] if "stage" in root.params else []
    options = shlex.join([*stage, *_typed(context, "profile", "region", "directory")])
    return f"{root.info_name or 'ops'} {options}".rstrip()


def account_options_of(context: typer.Context) -> list[str]:
    """Return the options that have the AWS command line ask the same account and Region, as they were typed."""
    return _typed(context, "profile", "region")


def _typed(context: typer.Context, *names: str) -> list[str]:
    """Return those of the program's own options that were typed: a shell has the others' variables still."""
    root = context.find_root()
    words = []
    for name in names:
        source = root.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            words += [f"--{name}", str(root.params[name])]
    return words
