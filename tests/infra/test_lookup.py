import re
from typing import Any

INSTANCE_ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"
EVERY_INSTANCE = "arn:aws:connect:us-east-1:111122223333:instance/*"


def function_of(deployment: Any, stack: str = "lookup") -> dict[str, Any]:
    properties: dict[str, Any] = deployment.resolve(deployment.only("AWS::Lambda::Function", stack=stack)["Properties"])
    return properties


def test_the_function_runs_what_the_asset_holds_as_the_capture_function_does(default: Any) -> None:
    function, capture = function_of(default), function_of(default, "capture")

    assert function["Handler"] == "lookup.handler.handler"
    for same in ("Code", "Runtime", "Architectures", "MemorySize"):
        assert function[same] == capture[same]


def test_the_function_is_told_the_table(default: Any) -> None:
    (table,) = default.all("AWS::DynamoDB::Table")
    variables = function_of(default)["Environment"]["Variables"]

    assert {name: value for name, value in variables.items() if not name.startswith("POWERTOOLS_")} == {
        "TABLE_NAME": table
    }


def test_it_runs_no_longer_than_a_flow_can_wait(default: Any) -> None:
    assert function_of(default)["Timeout"] == 8


def test_flows_of_the_account_s_instances_may_invoke_it_or_of_those_that_are_named(
    default: Any, production: Any
) -> None:
    for deployment, instance in ((default, EVERY_INSTANCE), (production, INSTANCE_ARN)):
        (function,) = deployment.all("AWS::Lambda::Function", stack="lookup")
        assert deployment.resolve(deployment.only("AWS::Lambda::Permission", stack="lookup")["Properties"]) == {
            "Action": "lambda:InvokeFunction",
            "FunctionName": f"arn:aws:lambda:us-east-1:111122223333:function:{function}",
            "Principal": "connect.amazonaws.com",
            "SourceAccount": "111122223333",
            "SourceArn": instance,
        }


def test_the_flow_designer_lists_it_where_instances_are_named_and_only_there(default: Any, production: Any) -> None:
    (function,) = production.all("AWS::Lambda::Function", stack="lookup")
    [association] = production.flow_designer["Resources"].values()

    assert default.flow_designer is None
    assert association["Type"] == "AWS::Connect::IntegrationAssociation"
    assert production.resolve(association["Properties"]) == {
        "Tags": [{"Key": "project", "Value": "contact-references"}, {"Key": "stage", "Value": "prod"}],
        "InstanceId": INSTANCE_ARN,
        "IntegrationArn": f"arn:aws:lambda:us-east-1:111122223333:function:{function}",
        "IntegrationType": "LAMBDA_FUNCTION",
    }


def test_logs_are_kept_longer_in_production(default: Any, production: Any) -> None:
    for deployment, days in ((default, 30), (production, 365)):
        (log_group,) = deployment.all("AWS::Logs::LogGroup", stack="lookup")

        assert function_of(deployment)["LoggingConfig"] == {"LogGroup": log_group}
        assert deployment.only("AWS::Logs::LogGroup", stack="lookup")["Properties"]["RetentionInDays"] == days


def test_the_stack_is_a_function_and_its_permission_and_nothing_else(default: Any) -> None:
    kinds = {each["Type"] for each in default.lookup["Resources"].values()}

    assert kinds - {"AWS::CDK::Metadata"} == {
        "AWS::Lambda::Function",
        "AWS::Lambda::Permission",
        "AWS::Logs::LogGroup",
        "AWS::IAM::Role",
        "AWS::IAM::Policy",
    }


def test_the_output_names_the_function(default: Any) -> None:
    (function,) = default.all("AWS::Lambda::Function", stack="lookup")
    named = {name: each for name, each in default.lookup["Outputs"].items() if not re.match("ExportsOutput", name)}

    assert {name: default.resolve(each["Value"]) for name, each in named.items()} == {"LookupFunctionName": function}
