import re
import subprocess
import sys
from pathlib import Path

import pytest
from cdk_nag import AwsSolutionsChecks

# cdk-nag names a wildcard by its resolved resource, which no construct can know beforehand: the reasons stand here.
WILDCARDS = {
    r"arn:[^*]*:instance/(\*|[0-9a-f-]{36})/contact/\*": "contacts get their ids at run time",
    r"[^*]*LakeBucket[^*]*/captures/\*": "objects get their names at run time",
    r"\*": "X-Ray has no resources to name",
}


@pytest.mark.parametrize("name", ["default", "production"])
def test_cdk_nag_finds_nothing_but_explained_wildcards(name: str, request: pytest.FixtureRequest) -> None:
    report = AwsSolutionsChecks().validate_scope(request.getfixturevalue(name).app)

    found = [violation.rule_name for violation in report.violations]
    explained = "|".join(rf"AwsSolutions-IAM5\[Resource::({resource})\]" for resource in WILDCARDS)
    assert [rule for rule in found if not re.fullmatch(explained, rule)] == []
    assert len(found) == len(WILDCARDS)


@pytest.mark.parametrize("name", ["default", "production"])
def test_cfn_lint_finds_nothing(name: str, request: pytest.FixtureRequest) -> None:
    deployment = request.getfixturevalue(name)
    # W3005: the CDK writes a DependsOn beside a reference that says the same.
    options = ["--ignore-checks", "W3005", "--regions", "us-east-1", "--"]
    command = [Path(sys.executable).with_name("cfn-lint"), *options, *deployment.template_files]

    finished = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (finished.returncode, finished.stdout) == (0, "")
