"""The tables function's role, on an emulator that enforces it: all of it is enough, and each part is needed."""

import re

import pytest

from local.emulator import LocalSystemError
from local.system import System
from local.tables import write_tables
from tests.permissions.conftest import Role
from tests.permissions.test_role import NOT_ENFORCED
from tests.system.conftest import Contacts

NEEDED = {
    "dynamodb:UpdateItem": "UpdateItem",
    "dynamodb:Query": "Query",
    "dynamodb:BatchGetItem": "BatchGetItem",
    "s3:ListBucket": "ListObjectsV2",
    "s3:GetObject": "GetObject",
    "s3:PutObject": "PutObject",
}
"""Actions, and the call of a run that fails without each."""

NEEDED_FOR_DAYS_ANEW = {"s3:ListBucketVersions": "ListObjectVersions"}


@pytest.fixture
def tables_role(system: System) -> Role:
    return Role(system, function="TablesFunctionName")


@pytest.fixture
def marked(system: System, contacts: Contacts) -> str:
    """A contact whose day is behind."""
    contact_id = contacts.create({"Url": {"Name": "account", "Value": "https://crm.example.com/1"}})
    contacts.complete(contact_id)
    assert system.outputs
    return contact_id


@pytest.mark.parametrize("action", NEEDED)
def test_without_an_action_a_run_says_which_call_was_refused_and_with_it_goes_on(
    system: System, marked: str, tables_role: Role, action: str
) -> None:
    assert marked
    with (
        tables_role.without(action),
        pytest.raises(LocalSystemError, match=rf"AccessDenied\w*: {NEEDED[action]} answered 4"),
    ):
        write_tables(system)

    assert write_tables(system)["written"] >= 1


def test_days_are_marked_anew_by_what_the_bucket_lists(system: System, marked: str, tables_role: Role) -> None:
    assert marked
    [(action, call)] = NEEDED_FOR_DAYS_ANEW.items()
    with tables_role.without(action), pytest.raises(LocalSystemError, match=rf"{call} answered 4"):
        write_tables(system, {"rebuild": {}})

    assert write_tables(system, {"rebuild": {}})["days"] >= 1
    assert write_tables(system)["written"] >= 1


def test_each_action_is_needed_or_asserted_on_the_template(tables_role: Role) -> None:
    patterns = [re.escape(pattern).replace(r"\*", ".*") for pattern in NOT_ENFORCED]
    enforced = {action for action in tables_role.actions if not any(re.fullmatch(each, action) for each in patterns)}

    assert enforced == {*NEEDED, *NEEDED_FOR_DAYS_ANEW}
