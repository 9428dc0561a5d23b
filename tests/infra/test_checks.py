import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cdk_nag import AwsSolutionsChecks

# cdk-nag names a wildcard by its resolved resource, which no construct can know beforehand: the reasons stand here.
WILDCARDS = {
    r"arn:[^*]*:instance/(\*|[0-9a-f-]{36})/contact/\*": "contacts get their ids at run time",
    r"arn:[^*]*:instance/\*": "no instance named means every one of the account and Region",
    r"[^*]*LakeBucket[^*]*/(captures|contacts|contact_references|query-results)/\*": "objects get names at run time",
    r"<(Reconcile|Tables)Function[^*]*\.Arn>:\*": "versions and aliases of the one function, which is granted whole",
    r"\*": "X-Ray, and the lists of instances and directories, have no resources to name",
}


def find(deployment: Any) -> list[str]:
    return [violation.rule_name for violation in AwsSolutionsChecks().validate_scope(deployment.app).violations]


def explained(resource: str) -> str:
    return rf"AwsSolutions-IAM5\[Resource::({resource})\]"


@pytest.mark.parametrize("name", ["default", "production"])
def test_cdk_nag_finds_nothing_but_explained_wildcards(name: str, request: pytest.FixtureRequest) -> None:
    found = find(request.getfixturevalue(name))

    assert [rule for rule in found if not re.fullmatch(explained("|".join(WILDCARDS)), rule)] == []


def test_each_explained_wildcard_is_there(default: Any) -> None:
    found = find(default)

    assert [each for each in WILDCARDS if not any(re.fullmatch(explained(each), rule) for rule in found)] == []


@pytest.mark.parametrize("name", ["default", "production"])
def test_cfn_lint_finds_nothing(name: str, request: pytest.FixtureRequest) -> None:
    deployment = request.getfixturevalue(name)
    # W3005: the CDK writes a DependsOn beside a reference that says the same.
    options = ["--ignore-checks", "W3005", "--regions", "us-east-1", "--"]
    command = [Path(sys.executable).with_name("cfn-lint"), *options, *deployment.template_files]

    finished = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (finished.returncode, finished.stdout) == (0, "")
