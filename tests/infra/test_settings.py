import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.settings import InvalidSettingsError, Settings
from tests.infra.conftest import synthesize

ROOT = Path(__file__).parents[2]
ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"
EVERY_TYPE = (
    "URL",
    "NUMBER",
    "STRING",
    "DATE",
    "EMAIL",
    "ATTACHMENT",
    "CONTACT_ANALYSIS",
    "EMAIL_MESSAGE",
    "EMAIL_MESSAGE_PLAIN_TEXT",
    "EMAIL_MESSAGE_REDACTED",
    "EMAIL_MESSAGE_PLAIN_TEXT_REDACTED",
)
OTHER_ARN = "arn:aws-us-gov:connect:us-gov-west-1:111122223333:instance/00000000-0000-0000-0000-000000000001"


def read(context: dict[str, Any], **given: object) -> Settings:
    """What is read of cdk.json's context with these keys in place of its own, as `-c` puts them there."""
    return Settings.from_context({**context, **given}, defaults=context)


def problems_of(context: dict[str, Any], **given: object) -> list[str]:
    with pytest.raises(InvalidSettingsError) as caught:
        read(context, **given)
    return str(caught.value).splitlines()


def test_the_defaults_are_those_of_the_contract(context: dict[str, Any]) -> None:
    assert read(context) == Settings(
        stage="dev",
        instance_arns=(),
        completion_event_types=("COMPLETED",),
        reference_types={"*": EVERY_TYPE},
        audit_share=0.01,
        connect_requests_per_second=8,
        search_requests_per_second=0.25,
        backfill_share=0.5,
        reconcile_every_minutes=15,
        announce=False,
        retention_days=0,
        alarm_email="",
    )
    assert context["stages"] == {}


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("stage", "test", "stage", "test"),
        ("stage", "a23456789-123456", "stage", "a23456789-123456"),
        ("instanceArns", f"{ARN}, {OTHER_ARN}", "instance_arns", (ARN, OTHER_ARN)),
        ("instanceArns", [ARN], "instance_arns", (ARN,)),
        ("instanceArns", "", "instance_arns", ()),
        ("completionEventTypes", "DISCONNECTED", "completion_event_types", ("DISCONNECTED",)),
        ("instanceArns", json.dumps([ARN]), "instance_arns", (ARN,)),
        ("referenceTypes", "URL,EMAIL_MESSAGE", "reference_types", {"*": ("URL", "EMAIL_MESSAGE")}),
        ("referenceTypes", ["URL", "DATE"], "reference_types", {"*": ("URL", "DATE")}),
        ("referenceTypes", '["URL", "DATE"]', "reference_types", {"*": ("URL", "DATE")}),
        (
            "referenceTypes",
            {"VOICE": ["URL"], "CHAT": "URL,DATE", "*": ["URL", "DATE", "EMAIL"]},
            "reference_types",
            {"VOICE": ("URL",), "CHAT": ("URL", "DATE"), "*": ("URL", "DATE", "EMAIL")},
        ),
        (
            "referenceTypes",
            ' {"TASK": ["URL"], "EMAIL": ["DATE"], "*": ["URL"]}',
            "reference_types",
            {"TASK": ("URL",), "EMAIL": ("DATE",), "*": ("URL",)},
        ),
        ("auditShare", "0", "audit_share", 0),
        ("auditShare", 1, "audit_share", 1),
        ("connectRequestsPerSecond", "2.5", "connect_requests_per_second", 2.5),
        ("connectRequestsPerSecond", 500, "connect_requests_per_second", 500),
        ("retentionDays", "3650", "retention_days", 3650),
        ("alarmEmail", "a@b.example", "alarm_email", "a@b.example"),
        ("reconcileEveryMinutes", "1", "reconcile_every_minutes", 1),
        ("reconcileEveryMinutes", 14, "reconcile_every_minutes", 14),
        ("searchRequestsPerSecond", "0.01", "search_requests_per_second", 0.01),
        ("searchRequestsPerSecond", 100, "search_requests_per_second", 100),
        ("announce", "true", "announce", True),
        ("announce", "false", "announce", False),
        ("announce", True, "announce", True),
        ("retentionDays", "0", "retention_days", 0),
        ("alarmEmail", "", "alarm_email", ""),
        ("backfillShare", "0.001", "backfill_share", 0.001),
        ("backfillShare", 1, "backfill_share", 1),
    ],
)
def test_a_value_is_read_as_cdk_json_and_the_command_line_give_it(
    context: dict[str, Any], key: str, value: object, field: str, expected: object
) -> None:
    assert getattr(read(context, **{key: value}), field) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stage", ""),
        ("stage", "Prod"),
        ("stage", "1st"),
        ("stage", "a23456789-1234567"),
        ("stage", True),
        ("instanceArns", ARN.replace("arn:aws:", "arn:aws::")),
        ("instanceArns", f"{ARN}/contact/1"),
        ("instanceArns", f"{ARN},"),
        ("instanceArns", [ARN, ARN]),
        ("instanceArns", [1]),
        ("instanceArns", {"arn": ARN}),
        ("completionEventTypes", "INITIATED"),
        ("completionEventTypes", "completed"),
        ("completionEventTypes", []),
        ("referenceTypes", ""),
        ("referenceTypes", "URL,LINK"),
        ("referenceTypes", "URL,URL"),
        ("referenceTypes", {}),
        ("referenceTypes", {"VOICE": ["URL"]}),
        ("referenceTypes", {"voice": ["URL"], "*": ["URL"]}),
        ("referenceTypes", {"VOICE": [], "*": ["URL"]}),
        ("referenceTypes", {"VOICE": ["LINK"], "*": ["URL"]}),
        ("referenceTypes", {"*": {"*": ["URL"]}}),
        ("referenceTypes", '{"*": ["URL"]'),
        ("auditShare", -0.01),
        ("auditShare", "1.01"),
        ("auditShare", "few"),
        ("connectRequestsPerSecond", "0"),
        ("connectRequestsPerSecond", 8001),
        ("connectRequestsPerSecond", "nan"),
        ("connectRequestsPerSecond", "many"),
        ("connectRequestsPerSecond", True),
        ("connectRequestsPerSecond", None),
        ("retentionDays", -1),
        ("retentionDays", "1.5"),
        ("retentionDays", 3651),
        ("alarmEmail", "nobody"),
        ("alarmEmail", "a@b.example,c@d.example"),
        ("reconcileEveryMinutes", "0"),
        ("reconcileEveryMinutes", 16),
        ("reconcileEveryMinutes", "7.5"),
        ("searchRequestsPerSecond", 0),
        ("searchRequestsPerSecond", "101"),
        ("announce", "yes"),
        ("announce", 1),
        ("announce", None),
        ("backfillShare", 0),
        ("backfillShare", "1.01"),
        ("backfillShare", "half"),
    ],
)
def test_a_bad_value_is_named_with_its_key_and_an_example(context: dict[str, Any], key: str, value: object) -> None:
    (problem,) = problems_of(context, **{key: value})

    assert problem.startswith(f"{key}: {json.dumps(value)} ")
    assert f"; for example -c {key}=" in problem


def test_the_example_in_every_problem_is_a_good_value(context: dict[str, Any]) -> None:
    ours = [key for key in context if not key.startswith("@") and key != "stages"]

    problems = problems_of(context, **{key: {} for key in ours})

    options = [shlex.split(problem.split("; for example ")[1]) for problem in problems]
    examples = dict(option.split("=", maxsplit=1) for dash_c, option in options if dash_c == "-c")
    assert list(examples) == ours
    assert read(context, **examples)


def test_an_unknown_key_is_reported_with_the_nearest_known_one(context: dict[str, Any]) -> None:
    (problem,) = problems_of(context, retentionDay="30")

    assert problem.startswith('retentionDay: unknown key, value "30"; did you mean retentionDays; for example -c ')


def test_a_missing_key_is_reported(context: dict[str, Any]) -> None:
    without = {key: value for key, value in context.items() if key != "stage"}

    assert problems_of(without) == ["stage: missing; cdk.json holds the default; for example -c stage=dev"]


def test_a_stage_overrides_the_defaults_and_the_command_line_overrides_both(context: dict[str, Any]) -> None:
    edited = {**context, "stages": {"test": {"retentionDays": 730, "auditShare": 0.5, "instanceArns": ARN}}}

    other, stage, given = read(edited), read(edited, stage="test"), read(edited, stage="test", retentionDays="30")

    assert (other.retention_days, other.audit_share, other.instance_arns) == (0, 0.01, ())
    assert (stage.retention_days, stage.audit_share, stage.instance_arns) == (730, 0.5, (ARN,))
    assert (given.retention_days, given.audit_share, given.instance_arns) == (30, 0.5, (ARN,))


def test_a_stage_that_is_the_default_has_its_overrides_too(context: dict[str, Any]) -> None:
    assert read({**context, "stages": {"dev": {"announce": True}}}).announce is True


@pytest.mark.parametrize(
    ("key", "override", "option"),
    [
        ("retentionDays", 730, "0"),
        ("auditShare", 0.5, "0.01"),
        ("announce", True, "false"),
        ("instanceArns", [ARN], ""),
        ("completionEventTypes", ["DISCONNECTED"], "COMPLETED"),
        ("referenceTypes", ["URL"], ",".join(EVERY_TYPE)),
        ("alarmEmail", "a@b.example", " "),
    ],
)
def test_the_command_line_can_take_a_stage_back_to_the_default(
    context: dict[str, Any], key: str, override: object, option: str
) -> None:
    edited = {**context, "stages": {"test": {key: override}}}

    assert read(edited, stage="test") != read(context, stage="test")
    assert read(edited, stage="test", **{key: option}) == read(context, stage="test")


def test_no_default_that_a_stage_overrides_is_a_string_but_alarm_email_s(context: dict[str, Any]) -> None:
    texts = {key for key, value in context.items() if isinstance(value, str) and not key.startswith("@")}

    assert texts == {"stage", "alarmEmail"}


def test_stages_can_be_given_on_the_command_line(context: dict[str, Any]) -> None:
    stages = '{"prod": {"retentionDays": 730}}'

    assert read(context, stage="prod", stages=stages).retention_days == 730


@pytest.mark.parametrize(
    ("stages", "beginning", "example"),
    [
        ("prod", 'stages: "prod" is not an object; ', '"stages": {"prod": {"retentionDays": 730}} in cdk.json'),
        ([], "stages: [] is not an object; ", '"stages": {"prod": {"retentionDays": 730}} in cdk.json'),
        (
            '{"prod"',
            'stages: "{\\"prod\\"" is not valid JSON; ',
            '"stages": {"prod": {"retentionDays": 730}} in cdk.json',
        ),
        ({"Prod": {}}, 'stages: "Prod" cannot name', '"stages": {"prod": {"retentionDays": 730}} in cdk.json'),
        ({"qa": 5}, "stages.qa: 5 is not an object; ", '"stages": {"prod": {"retentionDays": 730}} in cdk.json'),
        ({"qa": {"retentionDays": -1}}, "stages.qa.retentionDays: -1 is not a number ", '"retentionDays": 730'),
        ({"qa": {"announce": "yes"}}, 'stages.qa.announce: "yes" is neither ', '"announce": true'),
        ({"qa": {"retention": 1}}, "stages.qa.retention: unknown key, value 1; did you ", '"retentionDays": 730'),
        ({"qa": {"stage": "dev"}}, 'stages.qa.stage: unknown key, value "dev"; ', None),
        ({"qa": {"stages": {}}}, "stages.qa.stages: unknown key, value {}; ", None),
    ],
)
def test_a_bad_value_of_any_stage_is_named_with_its_place_and_an_example(
    context: dict[str, Any], stages: object, beginning: str, example: str | None
) -> None:
    (problem,) = problems_of(context, stages=stages)

    assert problem.startswith(beginning)
    assert example is None or problem.endswith(f"; for example {example}")


def test_the_example_of_every_key_of_a_stage_is_a_good_value(context: dict[str, Any]) -> None:
    ours = [key for key in context if not key.startswith("@") and key not in {"stage", "stages"}]

    problems = problems_of(context, stages={"test": {key: {} for key in ours}})

    examples = json.loads("{" + ", ".join(problem.split("; for example ")[1] for problem in problems) + "}")
    assert list(examples) == ours
    assert read(context, stage="test", stages={"test": examples})


def test_production_takes_no_default_retention(context: dict[str, Any]) -> None:
    for days in (0, 365):
        (problem,) = problems_of({**context, "retentionDays": days}, stage="prod")

        assert problem.startswith(f"retentionDays: {days} is the default, which stage prod does not take")
        assert problem.endswith(
            '; for example -c retentionDays=730 or "stages": {"prod": {"retentionDays": 730}} in cdk.json'
        )
    (problem,) = problems_of(context, stage="prod", stages={"dev": {"retentionDays": 30}, "prod": {"announce": True}})
    assert problem.startswith("retentionDays: ")


@pytest.mark.parametrize(
    ("given", "days"),
    [
        ({"retentionDays": "730"}, 730),
        ({"retentionDays": "0"}, 0),
        ({"stages": {"prod": {"retentionDays": 730}}}, 730),
        ({"stages": {"prod": {"retentionDays": 0}}}, 0),
    ],
)
def test_production_takes_a_retention_that_was_chosen(
    context: dict[str, Any], given: dict[str, Any], days: int
) -> None:
    assert read(context, stage="prod", **given).retention_days == days


@pytest.mark.parametrize(
    ("rate", "minutes", "searches", "example"),
    [
        ("0.01", "1", "0.6", "-c searchRequestsPerSecond=0.14 or -c reconcileEveryMinutes=14"),
        ("0.13", "1", "7.8", "-c searchRequestsPerSecond=0.14 or -c reconcileEveryMinutes=2"),
        ("0.02", "6", "7.2", "-c searchRequestsPerSecond=0.03 or -c reconcileEveryMinutes=7"),
    ],
)
def test_a_run_without_time_for_its_searches_is_refused_with_values_that_work(
    context: dict[str, Any], rate: str, minutes: str, searches: str, example: str
) -> None:
    (problem,) = problems_of(context, searchRequestsPerSecond=rate, reconcileEveryMinutes=minutes)

    assert problem.startswith(
        f"searchRequestsPerSecond: {rate} allows {searches} searches a run with reconcileEveryMinutes {minutes}, "
    )
    assert problem.endswith(f"; for example {example}")


@given(rate=st.floats(min_value=0.01, max_value=0.14), minutes=st.integers(min_value=1, max_value=15))
def test_a_run_has_time_for_eight_searches_or_either_example_gives_it(
    context: dict[str, Any], rate: float, minutes: int
) -> None:
    given = {"searchRequestsPerSecond": rate, "reconcileEveryMinutes": minutes}
    try:
        settings = read(context, **given)
    except InvalidSettingsError as error:
        examples = re.findall(r"-c (\w+)=(\S+)", str(error))
        assert [key for key, _ in examples] == list(given)
        for key, value in examples:
            assert read(context, **{**given, key: value})
    else:
        assert settings.search_requests_per_second * 60 * settings.reconcile_every_minutes >= 8


def test_a_stage_s_searches_are_those_it_chose(context: dict[str, Any]) -> None:
    stages = {"test": {"searchRequestsPerSecond": 0.05, "reconcileEveryMinutes": 2}}

    assert read(context, stages=stages)
    assert read(context, stages=stages, stage="test", reconcileEveryMinutes="3")
    (problem,) = problems_of(context, stages=stages, stage="test")
    assert problem.startswith("searchRequestsPerSecond: 0.05 allows 6 searches a run with reconcileEveryMinutes 2, ")


def test_what_contradicts_is_named_beside_a_retention_that_was_not_chosen(context: dict[str, Any]) -> None:
    problems = problems_of(context, stage="prod", searchRequestsPerSecond="0.01", reconcileEveryMinutes="1")

    assert [problem.split(":")[0] for problem in problems] == ["retentionDays", "searchRequestsPerSecond"]


@pytest.mark.parametrize(
    "key",
    [
        "@aws-cdk/core:checkSecretUsage",
        "aws:cdk:bundling-stacks",
        "availability-zones:account=111122223333:region=us-east-1",
        "ssm:account=111122223333:parameterName=/a/b:region=us-east-1",
        "hosted-zone:account=111122223333:domainName=example.com:region=us-east-1",
        "acknowledged-issue-numbers",
    ],
)
def test_the_cdk_s_own_keys_pass(context: dict[str, Any], key: str) -> None:
    assert read(context, **{key: True}) == read(context)


def test_the_app_ends_with_one_line_for_each_problem_and_no_traceback(context: dict[str, Any], tmp_path: Path) -> None:
    bad = {"stage": "PROD", "connectRequestsPerSecond": "lots", "stages": "prod"}
    # As the CLI gives the context. That it builds an app whose context is good, each local deployment shows.
    environment = {**os.environ, "CDK_CONTEXT_JSON": json.dumps({**context, **bad}), "CDK_OUTDIR": str(tmp_path)}

    finished = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )

    assert finished.returncode == 1
    problems = [line for line in finished.stderr.splitlines() if "; for example " in line]
    assert sorted(line.split(":")[0] for line in problems) == ["connectRequestsPerSecond", "stage", "stages"]
    assert "Traceback" not in finished.stderr


def test_the_app_builds_a_stage_as_cdk_json_and_the_command_line_describe_it(
    context: dict[str, Any], tmp_path: Path
) -> None:
    stages = {"prod": {"retentionDays": 730, "auditShare": 0.5}}

    deployment = synthesize({**context, "stage": "prod", "stages": stages, "auditShare": "0.01"}, tmp_path)

    variables = deployment.only("AWS::Lambda::Function", stack="capture")["Properties"]["Environment"]["Variables"]
    assert (variables["RETENTION_DAYS"], variables["AUDIT_SHARE"]) == ("730", "0.01")
