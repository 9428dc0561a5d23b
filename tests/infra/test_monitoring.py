import json
import re
from pathlib import Path
from typing import Any

import pytest

from contact_references.capture import report as capture_report
from contact_references.reconcile import report as reconcile_report
from contact_references.tables import report as tables_report
from local.dashboard import draw, read_widgets

ROOT = Path(__file__).parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
HEADINGS = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", RUNBOOK, re.MULTILINE)}
EMITTED = {
    ("service",): {
        *(*capture_report.COUNTS, capture_report.SECONDS_TO_CAPTURE),
        *(*reconcile_report.COUNTS, reconcile_report.TOTAL),
        *(*tables_report.COUNTS, tables_report.SECONDS_BEHIND),
    },
    ("instance_id", "service"): set(reconcile_report.GAUGES),
}
"""Names of metrics by the names of their dimensions."""
SILENT_AT_ZERO = EMITTED[("service",)] - {"ApiCalls", "SearchCalls", "SecondsBehind", "ContactsMissing"}


def name_of(logical_id: str) -> str:
    """What an alarm is called in the code and the runbook: its logical id without the CDK's hash."""
    return logical_id[:-8]


def alarms(deployment: Any) -> dict[str, dict[str, Any]]:
    found = deployment.all("AWS::CloudWatch::Alarm", stack="monitoring")
    return {name_of(name): deployment.resolve(alarm["Properties"]) for name, alarm in found.items()}


def composites(deployment: Any) -> dict[str, dict[str, Any]]:
    found = deployment.all("AWS::CloudWatch::CompositeAlarm")
    return {name_of(name): deployment.resolve(alarm["Properties"]) for name, alarm in found.items()}


def dimensions(alarm: dict[str, Any]) -> dict[str, str]:
    return {each["Name"]: each["Value"] for each in alarm["Dimensions"]}


def dashboard(deployment: Any) -> list[dict[str, Any]]:
    body = deployment.resolve(deployment.only("AWS::CloudWatch::Dashboard")["Properties"]["DashboardBody"])
    widgets: list[dict[str, Any]] = json.loads(body)["widgets"]
    return widgets


@pytest.mark.parametrize("name", ["default", "production"])
def test_each_alarm_tells_the_topic_itself_or_one_that_speaks_for_it_does(
    name: str, request: pytest.FixtureRequest
) -> None:
    deployment = request.getfixturevalue(name)
    (topic,) = deployment.all("AWS::SNS::Topic")
    spoken_for = [
        name_of(each)
        for composite in composites(deployment).values()
        for each in re.findall(r"alarm:(\w+)", composite["AlarmRule"])
    ]
    arn = deployment.resolve({"Fn::GetAtt": [topic, "TopicArn"]})

    for alarm_name, alarm in (alarms(deployment) | composites(deployment)).items():
        assert alarm["AlarmActions"] in ([arn], [topic]), alarm_name
    silent = [each for each, alarm in alarms(deployment).items() if alarm["ActionsEnabled"] is False]
    assert sorted(silent) == sorted(spoken_for), "each once, and none told twice"
    assert bool(silent) == (name == "production")


@pytest.mark.parametrize("name", ["default", "production"])
def test_each_alarm_says_what_it_means_and_where_to_read_on(name: str, request: pytest.FixtureRequest) -> None:
    deployment = request.getfixturevalue(name)

    for alarm_name, alarm in (alarms(deployment) | composites(deployment)).items():
        found = re.fullmatch(r".+\. What to do: docs/runbook\.md#([\w-]+)", alarm["AlarmDescription"])
        assert found, alarm_name
        assert found[1] in HEADINGS, alarm_name


def test_the_runbook_has_each_alarm_with_the_heading_that_its_message_names(default: Any, production: Any) -> None:
    table = RUNBOOK.split("| alarm |", 1)[1].split("\n\n", 1)[0]
    listed = {
        alarm: anchor
        for row in table.splitlines()[2:]
        for anchor in re.findall(r"\(#([\w-]+)\)", row)
        for alarm in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    for deployment in (default, production):
        told = {name.rstrip("0"): alarm["AlarmDescription"].split("#")[1] for name, alarm in alarms(deployment).items()}
        assert told == listed


def test_each_function_has_an_alarm_on_its_errors_and_one_on_its_throttles(default: Any) -> None:
    watched = {
        (dimensions(alarm)["FunctionName"], alarm["MetricName"])
        for alarm in alarms(default).values()
        if alarm["Namespace"] == "AWS/Lambda"
    }

    functions = default.all("AWS::Lambda::Function")
    assert len(functions) == 4
    assert watched == {(function, metric) for function in functions for metric in ("Errors", "Throttles")}


@pytest.mark.parametrize("name", ["default", "production"])
def test_metrics_of_our_own_are_those_that_the_code_writes(name: str, request: pytest.FixtureRequest) -> None:
    deployment = request.getfixturevalue(name)
    ours = [alarm for alarm in alarms(deployment).values() if alarm["Namespace"] == "ContactReferences"]
    drawn = [
        metric
        for widget in dashboard(deployment)
        for metric in widget["properties"].get("metrics", [])
        if metric[0] == "ContactReferences"
    ]

    assert len(ours) >= 9
    for alarm in ours:
        assert alarm["MetricName"] in EMITTED[tuple(sorted(dimensions(alarm)))]
        assert dimensions(alarm)["service"] == "contact-references"
    for _, metric, *pairs in drawn:
        assert metric in EMITTED[tuple(sorted(pairs[:-1:2]))]


def test_metrics_are_those_that_the_services_have(default: Any) -> None:
    (rule,) = default.all("AWS::Events::Rule")
    named = {(each["Namespace"], each["MetricName"]) for each in alarms(default).values()}

    assert {each for each in named if each[0] != "ContactReferences"} == {
        ("AWS/Lambda", "Errors"),
        ("AWS/Lambda", "Throttles"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage"),
        ("AWS/Events", "FailedInvocations"),
        ("AWS/Events", "InvocationsFailedToBeSentToDlq"),
    }
    assert dimensions(alarms(default)["EventsLost"]) == {"RuleName": rule}


def test_dead_letters_and_the_oldest_message_are_of_their_own_queue(default: Any) -> None:
    queues = default.all("AWS::SQS::Queue", stack="storage")
    (queue,) = [name for name, each in queues.items() if "RedrivePolicy" in each["Properties"]]

    assert dimensions(alarms(default)["OldestMessage"]) == {"QueueName": queue}
    assert dimensions(alarms(default)["DeadLetters"])["QueueName"] in set(queues) - {queue}


def test_no_alarm_leaves_open_what_missing_data_means_or_computes_its_metric(default: Any) -> None:
    found = alarms(default)

    for name, alarm in found.items():
        assert "TreatMissingData" in alarm, name
        assert "Metrics" not in alarm, "the local system refuses metric math"
        if alarm["MetricName"] in SILENT_AT_ZERO and alarm["Namespace"] == "ContactReferences":
            assert alarm["TreatMissingData"] == "notBreaching", name
    is_about_missing = {name for name, alarm in found.items() if alarm["TreatMissingData"] == "breaching"}
    assert is_about_missing == {"ReconcileNotRunning", "TablesBehind"}


def test_contacts_missing_are_watched_by_instance_where_instances_are_named(default: Any, production: Any) -> None:
    assert dimensions(alarms(default)["ContactsMissing"]) == {"service": "contact-references"}
    assert dimensions(alarms(production)["ContactsMissing0"]) == {
        "service": "contact-references",
        "instance_id": "12345678-1234-1234-1234-123456789012",
    }


@pytest.mark.parametrize(("name", "minutes"), [("default", 15), ("production", 5)])
def test_reconciling_is_watched_run_by_run(name: str, minutes: int, request: pytest.FixtureRequest) -> None:
    alarm = alarms(request.getfixturevalue(name))["ReconcileNotRunning"]

    assert (alarm["Period"], alarm["EvaluationPeriods"], alarm["DatapointsToAlarm"]) == (60 * minutes, 3, 3)
    assert (alarm["Statistic"], alarm["ComparisonOperator"], alarm["Threshold"]) == (
        "SampleCount",
        "LessThanThreshold",
        1,
    )


def test_what_a_cause_leads_to_is_told_after_the_cause(production: Any) -> None:
    rules = {name: set(re.findall(r"alarm:(\w+)", each["AlarmRule"])) for name, each in composites(production).items()}
    of = {kind: {name_of(each) for each in rule} for kind, rule in rules.items()}
    found = alarms(production)

    def least_seconds(name: str) -> float:
        alarm = found[name]
        waits: float = alarm["Period"] * (alarm["DatapointsToAlarm"] - 1)
        is_age = alarm["MetricName"] in ("ApproximateAgeOfOldestMessage", "SecondsBehind")
        return waits + (alarm["Threshold"] if is_age else 0)

    assert of.keys() == {"ActNow", "Overdue"}
    assert of["Overdue"] == {
        "OldestMessage",
        "CaptureKeepsFailing",
        "EventsMissing",
        "ContactsMissing0",
        "TablesBehind",
    }
    assert not {"DeadLetters", "LookupErrors"} & {*of["ActNow"], *of["Overdue"]}, "on for long, they would hide others"
    hourly = {"TablesErrors", "TablesThrottles"}
    assert max(map(least_seconds, of["ActNow"] - hourly)) <= 30 * 60
    assert max(map(least_seconds, hourly)) == 3600
    assert min(map(least_seconds, of["Overdue"])) >= 40 * 60
    assert least_seconds("ContactsMissing0") == 90 * 60
    assert least_seconds("TablesBehind") == 3 * 3600


def test_somebody_is_told_only_if_named(default: Any, production: Any) -> None:
    assert default.all("AWS::SNS::Subscription") == {}
    assert default.act_now is None
    subscription = production.only("AWS::SNS::Subscription")["Properties"]
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", "contact-centre@example.com")
    for composite in composites(production).values():
        assert composite["OKActions"] == composite["AlarmActions"]


def test_alarms_may_publish_to_the_topic_whatever_became_of_the_key(default: Any) -> None:
    (topic,) = default.all("AWS::SNS::Topic")
    by_cloudwatch = {"Service": "cloudwatch.amazonaws.com"}
    properties = default.only("AWS::SNS::Topic")["Properties"]
    policy = default.resolve(default.only("AWS::SNS::TopicPolicy")["Properties"]["PolicyDocument"])
    [allowed] = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
    [denied] = [each for each in policy["Statement"] if each["Effect"] == "Deny"]

    assert "KmsMasterKeyId" not in properties
    assert (allowed["Principal"], allowed["Action"], allowed["Resource"]) == (by_cloudwatch, "sns:Publish", topic)
    assert allowed["Condition"] == {"StringEquals": {"aws:SourceAccount": "111122223333"}}
    assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_dashboard_has_the_alarms_then_the_business_then_the_operator(default: Any) -> None:
    widgets = dashboard(default)
    business, operator = [
        at for at, widget in enumerate(widgets) if widget["type"] == "text" and widget["properties"]["markdown"]
    ]

    assert widgets[0]["type"] == "alarm"
    assert len(widgets[0]["properties"]["alarms"]) == len(alarms(default))
    assert [len(widgets[business + 1 : operator]), len(widgets[operator + 1 :])] == [4, 8]
    assert all(widget["x"] + widget["width"] <= 24 for widget in widgets)


@pytest.mark.parametrize(("name", "a_minute"), [("default", 480), ("production", 2400)])
def test_the_dashboard_draws_the_quota_as_a_line(name: str, a_minute: int, request: pytest.FixtureRequest) -> None:
    [calls] = [
        widget["properties"]
        for widget in dashboard(request.getfixturevalue(name))
        if any(metric[1] == "ApiCalls" for metric in widget["properties"].get("metrics", []))
    ]
    [line] = calls["annotations"]["horizontal"]

    assert line["value"] == a_minute
    assert calls["metrics"][0][-1]["period"] == 60


def test_the_picture_of_the_dashboard_can_be_drawn_of_the_template(default: Any, tmp_path: Path) -> None:
    widgets = read_widgets(default.monitoring)

    draw(widgets, tmp_path / "dashboard.png")

    assert len(widgets) == len(dashboard(default))
    assert (tmp_path / "dashboard.png").read_bytes().startswith(b"\x89PNG")


def test_references_are_drawn_by_type_from_what_the_capture_function_logs(production: Any) -> None:
    [widget] = [each["properties"] for each in dashboard(production) if each["type"] == "log"]
    (group,) = production.all("AWS::Logs::LogGroup", stack="capture")

    assert f"SOURCE '{group}'" in widget["query"]
    assert set(re.findall(r"sum\(references_by_type\.(\w+)\)", widget["query"])) == {"URL", "ATTACHMENT", "UNKNOWN"}


def test_the_alarms_that_are_paid_for_are_counted(default: Any) -> None:
    [counted] = re.findall(r"^\| Alarms: (\d+) \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)

    assert int(counted) == len(alarms(default))


def test_the_outputs_name_the_topic_and_the_page(default: Any) -> None:
    (topic,) = default.all("AWS::SNS::Topic")
    (page,) = default.all("AWS::CloudWatch::Dashboard")
    outputs = {name: default.resolve(each["Value"]) for name, each in default.monitoring["Outputs"].items()}
    console = "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"

    assert {name: outputs[name] for name in ("AlarmTopicArn", "DashboardUrl")} == {
        "AlarmTopicArn": topic,
        "DashboardUrl": f"{console}#dashboards/dashboard/{page}",
    }
