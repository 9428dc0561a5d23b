"""What stands behind docs/scale.md and the cost: a simulation or a count that is wrong looks like any other."""

import doctest
import io
import re
from pathlib import Path
from types import ModuleType

import pytest
from aws_lambda_powertools import Logger, Metrics

from benchmarks import cost, counts, prices, scale, stand_ins
from benchmarks.prices import INDEX_UNITS, KEY_MONTHS, PRICES, PUTS, READ_UNITS, WRITE_UNITS, Usage, price
from benchmarks.scale import SHAPE, Scenario, completions
from benchmarks.simulation import MOST_RECEIVES, Deployment, Figures, Latency, Plan, simulate
from benchmarks.stand_ins import Clients, RefusedError, list_references
from benchmarks.wiring import start_environment
from contact_references.aws.pacing import TokenBucket
from tests.unit.conftest import ALL_LISTS, ALL_TYPES, Clock, completion

INFRASTRUCTURE = (Path(__file__).parents[2] / "infra" / "queues.py").read_text(encoding="utf-8")
DEFAULT = Deployment(2, 4.0, 120, 25, 1)


def plan(**of: object) -> Plan:
    settings = {"deployment": DEFAULT, "quota": 10, "reference_types": ALL_TYPES} | of
    return Plan(**settings)  # type: ignore[arg-type]  # as the tests name them


def test_a_backlog_drains_at_the_pace_and_no_call_is_refused() -> None:
    figures = simulate(plan(), [0.0] * 400)
    assert (figures.captured, figures.calls, figures.throttled, figures.dead) == (400, 800, 0, 0)
    assert 100 <= figures.ended_at <= 100 * 1.05
    assert max(figures.batches) == 25


def test_the_same_plan_gives_the_same_figures() -> None:
    def run(seed: int) -> Figures:
        return simulate(plan(outage=(0.0, 60.0), seed=seed), [float(second) for second in range(60)])

    assert run(1) == run(1)
    assert run(1).waits != run(2).waits


def test_a_lone_contact_waits_for_the_window_the_start_and_the_calls() -> None:
    latency = Latency(event=1, connect=0.1, dynamodb=0.01, s3=0.05, call_overhead=0, invocation=0, cold_start=1)
    figures = simulate(plan(latency=latency), [5.0])
    window, start, look, two_tokens, call, rows, commit = 1, 1, 0.01, 0.5, 0.1, 0.01, 0.01
    assert figures.wait(0.99) == pytest.approx(1 + window + start + look + two_tokens - look + call + rows + commit)


def test_a_quota_below_the_rate_refuses_calls_and_loses_no_contact() -> None:
    figures = simulate(plan(quota=3), [0.0] * 100)
    assert figures.captured == 100
    assert figures.throttled > 0
    assert figures.calls - figures.throttled <= 3 * (figures.ended_at + 1)


def test_contacts_of_an_outage_are_captured_after_it() -> None:
    figures = simulate(plan(outage=(0.0, 1800.0)), [60.0 * minute for minute in range(30)])
    assert figures.captured == 30
    assert min(figures.waits) > 60
    assert figures.ended_at < 1800 + 900 + 120
    assert figures.dead == 0


def test_more_contacts_at_once_wait_in_the_backlog() -> None:
    figures = simulate(plan(), [0.0] * 1000)
    assert max(figures.backlog) > 500
    assert figures.backlog[0] == 0
    assert figures.most_busy == DEFAULT.concurrency


def test_metrics_are_paid_for_in_the_hours_that_give_them_data() -> None:
    quiet = {"ApiCalls", "ContactsCaptured", "ReferencesCaptured", "SecondsToCapture"}
    figures = simulate(plan(), [0.0, 2 * 3600.0])
    assert figures.metric_hours == {(hour, name) for hour in (0, 2) for name in quiet}
    refused = simulate(plan(quota=3), [0.0] * 100)
    assert {name for _, name in refused.metric_hours} == quiet | {"ContactsFailed", "ThrottledApiCalls"}


def test_each_invocation_is_counted_when_it_begins() -> None:
    figures = simulate(plan(), [0.0, 3600.0])
    assert list(figures.invoked_at) == pytest.approx([2.0, 3602.0])


def test_the_limit_of_receives_is_the_deployed_one() -> None:
    assert [str(MOST_RECEIVES)] == re.findall(r"max_receive_count=(\d+)", INFRASTRUCTURE)


def test_a_day_has_its_contacts_in_order_and_its_shape() -> None:
    moments = completions(Scenario(kind="day", contacts=20_000, quota=10))
    assert len(moments) == 20_000
    assert moments == sorted(moments)
    busiest = sum(10 * 3600 <= moment < 11 * 3600 for moment in moments)
    assert busiest / 20_000 == pytest.approx(SHAPE[10] / sum(SHAPE), rel=0.05)


class Counted:
    """The capture path on the counting stand-ins."""

    def __init__(self, references: int) -> None:
        self.usage = Usage()
        self.values = [f"https://crm.example.com/{n}" for n in range(references)]
        self.clients = Clients(
            self.usage,
            references=lambda _: [{"Url": {"Name": value, "Value": value}} for value in self.values],
            change_visibility=lambda *_: None,
            send=lambda _: None,
        )
        self.clock = Clock()
        self.capturer = start_environment(
            self.clients,
            type_lists=ALL_LISTS,
            bucket=TokenBucket(1, clock=lambda: 0, sleep=lambda _: None),
            logger=Logger(service="test", stream=io.StringIO()),
            metrics=Metrics(namespace="test", service="test"),
            clock=self.clock,
            sleep=lambda _: None,
        ).capturer

    def capture(self) -> dict[str, float]:
        """Capture one contact, and return what that used."""
        self.usage.clear()
        self.clock.advance(minutes=1)
        [result] = self.capturer.capture([completion(at=self.clock.now)], time_left=lambda: 900).values()
        assert not isinstance(result, Exception)
        names = (WRITE_UNITS, INDEX_UNITS, READ_UNITS, PUTS)
        return {name: self.usage[name] for name in names if self.usage.get(name)}


def test_a_first_capture_costs_its_items_its_index_entries_and_the_days_mark() -> None:
    assert Counted(5).capture() == {WRITE_UNITS: 6 + 1, INDEX_UNITS: 5 + 1, READ_UNITS: 1, PUTS: 1}


def test_a_contact_without_references_costs_one_write_and_the_days_mark() -> None:
    assert Counted(0).capture() == {WRITE_UNITS: 1 + 1, INDEX_UNITS: 1, READ_UNITS: 1, PUTS: 1}


def test_a_reading_that_says_the_same_writes_neither_rows_nor_lake() -> None:
    counted = Counted(5)
    counted.capture()
    assert counted.capture() == {WRITE_UNITS: 1, READ_UNITS: 2}


def test_rows_that_go_are_paid_for_in_table_and_index() -> None:
    counted = Counted(5)
    counted.capture()
    counted.values = counted.values[:3]
    # The contact, three rows that come and five that go, each in the index too, and the mark of a day that has one.
    assert counted.capture() == {WRITE_UNITS: 9 + 1, INDEX_UNITS: 8, READ_UNITS: 2, PUTS: 1}


def test_a_mark_of_what_is_due_costs_an_index_unit_when_it_comes_and_when_it_goes() -> None:
    counted = Counted(0)
    key = {"pk": {"S": "a"}, "sk": {"S": "CONTACT"}}
    mark = {"due_key": {"S": "RECHECK#i"}, "due_at": {"S": "2026-03-02T10:00:00.000Z"}}
    for item in (key | mark, key):
        counted.usage.clear()
        counted.clients.dynamodb.put_item(TableName="ledger", Item=item)
        assert counted.usage == {WRITE_UNITS: 1, INDEX_UNITS: 1}


def test_a_contact_costs_no_more_calls_and_units_than_its_bars() -> None:
    assert [row.what for row in counts.count() if row.counted > row.bar] == []


def test_the_stand_ins_refuse_what_the_services_refuse() -> None:
    counted = Counted(0)
    item = {"pk": {"S": "a"}, "sk": {"S": "CONTACT"}}
    put = {"TableName": "ledger", "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
    counted.clients.dynamodb.put_item(**put)
    with pytest.raises(RefusedError, match="ConditionalCheckFailed"):
        counted.clients.dynamodb.put_item(**put)
    with pytest.raises(RefusedError, match="Validation"):
        counted.clients.dynamodb.batch_write_item(RequestItems={"ledger": [{"PutRequest": {"Item": item}}] * 2})
    with pytest.raises(RefusedError, match="InvalidParameter"):
        list_references([], {"ReferenceTypes": ALL_TYPES})


@pytest.mark.parametrize("module", [prices, stand_ins, scale, cost], ids=lambda module: module.__name__)
def test_the_examples_in_its_docstrings_are_true(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def test_everything_used_has_a_price() -> None:
    assert price({PUTS: 2, KEY_MONTHS: 1}) == {PUTS: 2 * PRICES[PUTS], KEY_MONTHS: 1.0}
    with pytest.raises(KeyError, match="air"):
        price({"air": 1})
