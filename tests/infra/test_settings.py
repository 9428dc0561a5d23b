import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.settings import InvalidSettingsError, Settings

ROOT = Path(__file__).parents[2]
ARN = "arn:aws:connect:us-east-1:111122223333:instance/12345678-1234-1234-1234-123456789012"
OTHER_ARN = "arn:aws-us-gov:connect:us-gov-west-1:111122223333:instance/00000000-0000-0000-0000-000000000001"


def test_the_defaults_are_those_of_the_contract(context: dict[str, Any]) -> None:
    assert Settings.from_context(context) == Settings(
        stage="dev",
        instance_arns=(),
        completion_event_types=("COMPLETED",),
        reference_types=(
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
        ),
        connect_requests_per_second=8,
        retention_days=0,
        alarm_email="",
        reconcile_every_minutes=15,
        reconcile_window_hours=3,
        backfill_share=0.5,
    )


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("stage", "prod", "stage", "prod"),
        ("stage", "a23456789-123456", "stage", "a23456789-123456"),
        ("instanceArns", f"{ARN}, {OTHER_ARN}", "instance_arns", (ARN, OTHER_ARN)),
        ("instanceArns", [ARN], "instance_arns", (ARN,)),
        ("instanceArns", "", "instance_arns", ()),
        ("completionEventTypes", "DISCONNECTED", "completion_event_types", ("DISCONNECTED",)),
        ("referenceTypes", "URL,EMAIL_MESSAGE", "reference_types", ("URL", "EMAIL_MESSAGE")),
        ("connectRequestsPerSecond", "2.5", "connect_requests_per_second", 2.5),
        ("connectRequestsPerSecond", 500, "connect_requests_per_second", 500),
        ("retentionDays", "3650", "retention_days", 3650),
        ("alarmEmail", "a@b.example", "alarm_email", "a@b.example"),
        ("reconcileEveryMinutes", "1", "reconcile_every_minutes", 1),
        ("reconcileEveryMinutes", 90, "reconcile_every_minutes", 90),
        ("reconcileWindowHours", "1", "reconcile_window_hours", 1),
        ("reconcileWindowHours", 168, "reconcile_window_hours", 168),
        ("backfillShare", "0.001", "backfill_share", 0.001),
        ("backfillShare", 1, "backfill_share", 1),
    ],
)
def test_a_value_is_read_as_cdk_json_and_the_command_line_give_it(
    context: dict[str, Any], key: str, value: object, field: str, expected: object
) -> None:
    assert getattr(Settings.from_context({**context, key: value}), field) == expected


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
        ("reconcileEveryMinutes", 1441),
        ("reconcileEveryMinutes", "7.5"),
        ("reconcileWindowHours", 0),
        ("reconcileWindowHours", "169"),
        ("reconcileWindowHours", "1.5"),
        ("backfillShare", 0),
        ("backfillShare", "1.01"),
        ("backfillShare", "half"),
    ],
)
def test_a_bad_value_is_named_with_its_key_and_an_example(context: dict[str, Any], key: str, value: object) -> None:
    with pytest.raises(InvalidSettingsError) as caught:
        Settings.from_context({**context, key: value})

    (problem,) = str(caught.value).splitlines()
    assert problem.startswith(f"{key}: {json.dumps(value)} ")
    assert f"; for example -c {key}=" in problem


@pytest.mark.parametrize(("minutes", "hours", "enough"), [(1440, 47, 48), (90, 2, 3), (31, 1, 2)])
def test_a_contact_is_seen_by_at_least_two_runs(context: dict[str, Any], minutes: int, hours: int, enough: int) -> None:
    chosen = {**context, "reconcileEveryMinutes": minutes, "reconcileWindowHours": hours}
    with pytest.raises(InvalidSettingsError, match=rf"^reconcileWindowHours: {hours} is too short .*={enough}$"):
        Settings.from_context(chosen)

    assert Settings.from_context({**chosen, "reconcileWindowHours": enough}).reconcile_window_hours == enough


def test_the_example_in_every_problem_is_a_good_value(context: dict[str, Any]) -> None:
    ours = [key for key in context if not key.startswith("@")]
    with pytest.raises(InvalidSettingsError) as caught:
        Settings.from_context({key: {} for key in ours})

    problems = str(caught.value).splitlines()
    examples = dict(problem.split("; for example -c ")[1].split("=") for problem in problems)
    assert list(examples) == ours
    assert Settings.from_context({**context, **examples})


def test_an_unknown_key_is_reported_with_the_nearest_known_one(context: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidSettingsError, match=r'^retentionDay: unknown key, value "30"; did you mean retentionDays;'
    ):
        Settings.from_context({**context, "retentionDay": "30"})


def test_a_missing_key_is_reported(context: dict[str, Any]) -> None:
    with pytest.raises(InvalidSettingsError, match=r"^stage: missing"):
        Settings.from_context({key: value for key, value in context.items() if key != "stage"})


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
    assert Settings.from_context({**context, key: True}) == Settings.from_context(context)


def test_the_app_ends_with_one_line_for_each_problem_and_no_traceback(context: dict[str, Any]) -> None:
    bad = {**context, "stage": "PROD", "connectRequestsPerSecond": "lots", "stages": "prod"}

    finished = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, "CDK_CONTEXT_JSON": json.dumps(bad)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 1
    problems = [line for line in finished.stderr.splitlines() if "; for example -c " in line]
    assert sorted(line.split(":")[0] for line in problems) == ["connectRequestsPerSecond", "stage", "stages"]
    assert "Traceback" not in finished.stderr
