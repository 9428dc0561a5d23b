"""Every completed contact is accounted for: the simulated Connect, and moto for the rest, on one clock."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger, Metrics
from botocore.config import Config
from moto import mock_aws

from contact_references.backfill import Backfill, summarize
from contact_references.batch import Capturer
from contact_references.capture import Capture
from contact_references.connect import ReferenceReader
from contact_references.contact import Contact, ContactKey, Instance, Scope
from contact_references.errors import RetriableError
from contact_references.feeding import LONGEST_DELAY_SECONDS, ROOM_SECONDS, Feeder
from contact_references.intake import Intake
from contact_references.journal import HeldError, Journal, Period, Tally
from contact_references.lake import Lake
from contact_references.ledger import Ledger
from contact_references.pacing import TokenBucket
from contact_references.periods import InvalidPeriodError
from contact_references.queue import CaptureQueue, Message
from contact_references.reconcile import Reconciler, Work
from contact_references.report import Report
from contact_references.search import ContactSearch
from local.connect import ConnectSimulator
from tests.unit.conftest import ALL_TYPES, INSTANCE_ID, create_ledger

INSTANCE = Instance("us-east-1", "111122223333", INSTANCE_ID)
SCOPE = Scope(INSTANCE.region, INSTANCE.account)
NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
RATE = 2.0  # requests a second, of 10 that the account has
HOUR = timedelta(hours=1)
Counts = dict[str, int]


class World(SimpleNamespace):
    """A contact centre, its capture path and what reconciles them; only what needs time lets it pass."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.simulator = ConnectSimulator(clock=self.seconds, settle_seconds=1200)
        self.captured_events = 0
        self.metrics = Metrics(namespace="test", service="test")

    def clock(self) -> datetime:
        return self.now

    def seconds(self) -> float:
        return self.now.timestamp()

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def start(self) -> None:
        once = Config(retries={"total_max_attempts": 1}, proxies={})
        session = boto3.Session("test", "test", region_name="us-east-1")
        self.dynamodb = session.client("dynamodb", config=once)
        self.sqs = session.client("sqs", config=once)
        s3 = session.client("s3", config=once)
        create_ledger(self.dynamodb)
        s3.create_bucket(Bucket="lake")
        self.queue_url = self.sqs.create_queue(QueueName="contacts")["QueueUrl"]
        self.dead_url = self.sqs.create_queue(QueueName="dead")["QueueUrl"]
        connect = session.client("connect", endpoint_url=self.simulator.url, config=once)
        self.connect = connect
        self.ledger = Ledger(self.dynamodb, "ledger")
        self.reader = ReferenceReader(connect, reference_types=ALL_TYPES, bucket=self.bucket(RATE))
        capturer = Capturer(reader=self.reader, ledger=self.ledger, lake=Lake(s3, "lake"), clock=self.clock)
        queue = CaptureQueue(self.sqs, queue_url=self.queue_url, dead_letter_queue_url=self.dead_url)
        self.intake = Intake(
            capturer=capturer,
            queue=queue,
            report=Report(Logger(service="test", level="CRITICAL"), self.metrics),
            completion_types=frozenset({"COMPLETED"}),
        )
        self.search = ContactSearch(connect, bucket=self.bucket(0.5))
        self.journal = Journal(self.dynamodb, "ledger", clock=self.clock)

    def bucket(self, rate: float) -> TokenBucket:
        return TokenBucket(rate, clock=self.seconds, sleep=self.sleep)

    def reconciler(self, holder: str = "me", **of: Any) -> Reconciler:
        """A reconcile function's worth; it captures what is queued while it waits."""
        feeder = Feeder(
            self.sqs, self.queue_url, requests_per_second=RATE, calls_a_contact=2, share=of.pop("share", 0.5)
        )
        return Reconciler(
            search=of.pop("search", self.search),
            ledger=self.ledger,
            journal=self.journal,
            feeder=feeder,
            holder=holder,
            clock=self.clock,
            sleep=self.capture_for,
            **of,
        )

    def have(self, name: str, ended_at: datetime, references: int = 1, **members: Any) -> None:
        """Let a contact have ended, with its COMPLETED event lost."""
        seed = {
            "Id": name,
            "InstanceId": INSTANCE_ID,
            "Channel": "VOICE",
            "InitiationMethod": "INBOUND",
            "InitiationTimestamp": (ended_at - timedelta(minutes=5)).isoformat(),
            "DisconnectTimestamp": ended_at.isoformat(),
            "References": [{"Url": {"Name": f"u{n}", "Value": "https://example.com/"}} for n in range(references)],
        }
        self.simulator.import_contacts([seed | members])

    def deliver(self) -> None:
        """Put the events that Connect sent since the last time on the queue."""
        entries = self.simulator.events[self.captured_events :]
        self.captured_events += len(entries)
        for number, entry in enumerate(entries):
            event = {
                "source": entry["Source"],
                "detail-type": entry["DetailType"],
                "id": f"{self.captured_events}-{number}",
                "time": entry["Time"] if isinstance(entry["Time"], str) else self.now.isoformat(timespec="seconds"),
                "detail": json.loads(entry["Detail"]),
            }
            self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=json.dumps(event))

    def capture_for(self, seconds: float) -> None:
        """Let the capture function work at its pace for some time, which passes."""
        end = self.now + timedelta(seconds=seconds)
        while self.now < end and self.capture_batch():
            pass
        self.now = max(self.now, end)

    def capture_batch(self) -> int:
        """Capture up to ten messages; return how many there were."""
        received = self.sqs.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=10, AttributeNames=["ApproximateReceiveCount"]
        ).get("Messages", [])
        messages = [
            Message(
                message_id=each["MessageId"],
                receipt_handle=each["ReceiptHandle"],
                body=each["Body"],
                receive_count=int(each["Attributes"]["ApproximateReceiveCount"]),
                origin="queue",
            )
            for each in received
        ]
        failed = self.intake.take_messages(messages, scope=SCOPE, time_left=lambda: 900)
        for message in messages:
            if message.message_id not in failed:
                self.sqs.delete_message(QueueUrl=self.queue_url, ReceiptHandle=message.receipt_handle)
        return len(messages)

    def run_recent(self, reconciler: Reconciler | None = None, hours: int = 3) -> Work:
        """Do what the schedule does, then capture all that is queued."""
        reconciler = reconciler or self.reconciler()
        work = reconciler.recent_work([INSTANCE], timedelta(hours=hours))
        reconciler.run(work, time_left=lambda: 900)
        self.drain()
        return work

    def drain(self) -> None:
        while self.capture_batch():
            pass

    def calls(self, operation: str = "ListContactReferences") -> int:
        return int(self.simulator.statistics()["operations"][operation]["calls"])

    def captured(self) -> set[str]:
        keys = [ContactKey(INSTANCE_ID, each["Id"]) for each in self.simulator.contacts()]
        entries = self.ledger.find_entries(keys)
        return {key.contact_id for key, entry in entries.items() if entry.is_complete and entry.contact.completion_seen}

    def coverage(self, hour: datetime) -> Counts:
        item = self.item(f"COVERAGE#{INSTANCE_ID}", f"{hour:%Y-%m-%dT%H}:00:00.000Z")
        names = ("completed", "captured", "missing", "unsettled", "given_up")
        return {name: int(item[name]) for name in names}

    def item(self, pk: str, sk: str) -> dict[str, Any]:
        answer = self.dynamodb.get_item(TableName="ledger", Key={"pk": {"S": pk}, "sk": {"S": sk}})
        return {name: next(iter(value.values())) for name, value in answer["Item"].items()}

    def queued(self) -> int:
        answer = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with world.simulator, mock_aws(config={"core": {"passthrough": {"urls": [rf"{world.simulator.url}.*"]}}}):
        world.start()
        yield world
        world.metrics.clear_metrics()  # they are the process's


def minutes_ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def test_a_contact_whose_event_was_lost_is_captured(world: World) -> None:
    world.have("a", minutes_ago(70))

    work = world.run_recent()

    assert world.captured() == {"a"}
    assert dict(work.counts) == {"seen": 1, "already_there": 0, "queued": 1, "looks": 0}
    entry = world.ledger.find_entries([ContactKey(INSTANCE_ID, "a")])[ContactKey(INSTANCE_ID, "a")]
    assert entry.contact == Contact(
        key=ContactKey(INSTANCE_ID, "a"),
        initial_contact_id="a",
        channel="VOICE",
        initiation_method="INBOUND",
        completed_at=minutes_ago(70),
        completion_seen=True,
    )


def test_a_contact_counts_as_complete_an_hour_after_its_disconnect(world: World) -> None:
    world.have("a", minutes_ago(59))

    world.run_recent()
    assert world.captured() == set()

    world.sleep(120)
    world.run_recent()
    assert world.captured() == {"a"}


def test_after_lost_and_repeated_events_everything_is_there_and_nothing_is_read_twice(world: World) -> None:
    world.simulator.disturb_events(drop=0.3, repeat=0.1)
    for number in range(60):
        world.have(f"c{number}", minutes_ago(65 + number))
    for number in range(60):
        world.simulator.complete(f"c{number}")
    world.deliver()
    world.drain()
    by_events = world.captured()
    calls = world.calls()
    assert 30 < len(by_events) < 55

    world.run_recent()

    assert len(world.captured()) == 60
    assert world.calls() - calls == 2 * (60 - len(by_events))
    assert world.simulator.statistics()["operations"]["SearchContacts"]["throttled"] == 0


def test_reconciling_again_costs_nothing_but_the_search(world: World) -> None:
    for number in range(30):
        world.have(f"c{number}", minutes_ago(65 + number))
    world.run_recent()
    calls, searches = world.calls(), world.calls("SearchContacts")

    work = world.run_recent()

    assert (world.calls(), world.calls("SearchContacts")) == (calls, searches + 1)
    assert dict(work.counts) == {"seen": 30, "already_there": 30, "queued": 0, "looks": 0}


def test_a_leg_does_not_make_its_initial_contact_count_as_captured(world: World) -> None:
    world.have("first", minutes_ago(80))
    world.have("leg", minutes_ago(70), InitialContactId="first", PreviousContactId="first", InitiationMethod="TRANSFER")
    world.simulator.complete("leg")
    world.deliver()
    world.drain()
    assert world.captured() == {"leg"}

    work = world.run_recent()

    assert work.counts["queued"] == 1
    assert world.captured() == {"first", "leg"}


def test_a_reading_from_before_the_contacts_end_does_not_cover_it(world: World) -> None:
    world.have("a", minutes_ago(70))
    contact = Contact(
        key=ContactKey(INSTANCE_ID, "a"),
        initial_contact_id="a",
        completed_at=minutes_ago(70),
        completion_seen=True,
    )
    early = Capture(contact=contact, captured_at=minutes_ago(71), references=())
    world.ledger.commit(early, over=None)

    assert world.run_recent().counts["queued"] == 1
    assert world.calls() == 2


def test_a_contact_that_was_asked_for_is_not_asked_for_again_within_a_day(world: World) -> None:
    world.have("a", minutes_ago(70))
    reconciler = world.reconciler()
    for _ in range(3):
        reconciler.advance(reconciler.recent_work([INSTANCE], 3 * HOUR), time_left=lambda: 900)
    assert world.queued() == 1

    world.sqs.purge_queue(QueueUrl=world.queue_url)
    world.sleep(25 * 3600)
    reconciler.advance(reconciler.recent_work([INSTANCE], 48 * HOUR), time_left=lambda: 900)
    assert world.queued() == 1


def test_contacts_past_their_retention_are_neither_captured_nor_missed(world: World) -> None:
    world.have("old", NOW - timedelta(days=2))
    world.have("just past it", NOW - timedelta(days=1, minutes=1))
    world.have("young", NOW - timedelta(hours=20))
    reconciler = world.reconciler(retention=timedelta(days=1))

    work = reconciler.past_work([INSTANCE], NOW - timedelta(days=3), NOW)
    reconciler.run(work, time_left=lambda: 900)
    world.drain()

    assert world.captured() == {"young"}
    assert work.counts["seen"] == 1
    assert world.coverage(NOW.replace(minute=0) - timedelta(hours=20))["completed"] == 1


def test_many_contacts_in_a_period_are_searched_in_spans(world: World) -> None:
    moment = minutes_ago(61)
    world.simulator.import_contacts(
        [
            {
                "Id": f"c{number}",
                "InstanceId": INSTANCE_ID,
                "Channel": "TASK",
                "InitiationMethod": "API",
                "InitiationTimestamp": (moment - HOUR).isoformat(),
                "DisconnectTimestamp": (moment - timedelta(seconds=number // 3)).isoformat(),
            }
            for number in range(2400)
        ]
    )
    start = world.now

    spans = list(world.search.find_disconnected(INSTANCE, NOW - timedelta(days=1), NOW))

    found = [contact.key.contact_id for span in spans for contact in span.contacts]
    assert sorted(found) == sorted(f"c{number}" for number in range(2400))
    assert max(len(span.contacts) for span in spans) <= 500
    assert [span.until for span in spans] == sorted(span.until for span in spans)
    seconds = (world.now - start).total_seconds()
    assert world.search.calls <= 24 + 14  # 24 pages of 100, a few pages that are not full, and splits
    assert world.search.throttled_calls == 0
    assert seconds == pytest.approx(2 * world.search.calls)


def test_contacts_that_end_in_the_same_second_are_all_found(world: World) -> None:
    moment = minutes_ago(90)
    for number in range(50):
        world.have(f"c{number}", moment + timedelta(milliseconds=number // 10), references=0)

    work = world.run_recent()

    assert work.counts["seen"] == 50
    assert len(world.captured()) == 50


def test_a_period_without_contacts_is_one_search(world: World) -> None:
    reconciler = world.reconciler()
    work = reconciler.past_work([INSTANCE], NOW - timedelta(days=1), NOW)
    reconciler.run(work, time_left=lambda: 900)

    assert (work.is_done, work.counts["seen"], world.calls("SearchContacts")) == (True, 0, 1)
    assert world.coverage(NOW.replace(minute=0) - 5 * HOUR) == dict.fromkeys(
        ("completed", "captured", "missing", "unsettled", "given_up"), 0
    )


def test_what_is_fed_in_never_fills_more_of_the_queue_than_the_quota_empties_in_its_time(world: World) -> None:
    for number in range(80):
        world.have(f"c{number}", minutes_ago(90) + timedelta(seconds=number), references=0)
    reconciler = world.reconciler()
    work = reconciler.recent_work([INSTANCE], 3 * HOUR)

    seconds = reconciler.advance(work, time_left=lambda: 900)

    most = ROOM_SECONDS * RATE / 2
    assert world.queued() == most
    assert (work.is_done, work.counts["queued"]) == (False, most)
    assert seconds == pytest.approx(ROOM_SECONDS / 0.5, abs=3)

    fed_at = world.now
    world.drain()
    reconciler.advance(work, time_left=lambda: 900)
    share = (world.now - fed_at).total_seconds() * RATE / 2 * 0.5
    assert share - 1 < world.queued() < share + 1

    reconciler.run(work, time_left=lambda: 900)
    world.drain()
    assert len(world.captured()) == 80


def test_nothing_is_fed_while_live_contacts_wait(world: World) -> None:
    world.have("missing", minutes_ago(70))
    for number in range(200):
        world.sqs.send_message(QueueUrl=world.queue_url, MessageBody=json.dumps({"number": number}))
    reconciler = world.reconciler()
    work = reconciler.recent_work([INSTANCE], 3 * HOUR)

    seconds = reconciler.advance(work, time_left=lambda: 900)

    assert (world.queued(), work.is_done, seconds) == (200, False, LONGEST_DELAY_SECONDS)


def test_fed_contacts_take_their_share_of_the_rate_and_no_more(world: World) -> None:
    for number in range(80):
        world.have(f"c{number}", minutes_ago(90) + timedelta(seconds=number), references=0)
    start, calls = world.now, world.calls()
    world.run_recent(world.reconciler(share=0.25))

    taken = (world.calls() - calls) / (world.now - start).total_seconds()
    assert len(world.captured()) == 80
    assert 0.7 * 0.25 * RATE < taken < 1.3 * 0.25 * RATE


def test_one_searches_at_a_time(world: World) -> None:
    world.have("a", minutes_ago(70))
    mine, other = world.reconciler("mine"), world.reconciler("other")
    work = other.recent_work([INSTANCE], 3 * HOUR)
    with world.journal.lease("mine"):
        assert other.advance(work, time_left=lambda: 900) > 0
        assert (world.calls("SearchContacts"), work.is_done) == (0, False)
        assert mine.advance(mine.recent_work([INSTANCE], 3 * HOUR), time_left=lambda: 900) == 0
    other.advance(work, time_left=lambda: 900)
    assert work.is_done


def test_searchers_that_take_turns_keep_the_quota_together(world: World) -> None:
    """Each has saved a request while the other searched; the service, for both, has not."""
    buckets = [TokenBucket(0.5, clock=world.seconds, sleep=world.sleep) for _ in range(2)]
    searches = [ContactSearch(world.connect, bucket=bucket) for bucket in buckets]
    world.sleep(60)
    for turn in range(6):
        search = searches[turn % 2]
        reconciler = world.reconciler(f"holder {turn % 2}", search=search)
        reconciler.advance(reconciler.past_work([INSTANCE], NOW - HOUR, NOW), time_left=lambda: 900)

    assert [search.throttled_calls for search in searches] == [0, 0]
    assert world.calls("SearchContacts") == 6


def test_a_searcher_that_died_is_in_the_way_for_two_minutes(world: World) -> None:
    with suppress(HeldError), world.journal.lease("dead"):  # it finds its lease gone, at its end
        world.sleep(119)
        work = world.reconciler().recent_work([INSTANCE], 3 * HOUR)
        world.reconciler().advance(work, time_left=lambda: 900)
        assert not work.is_done

        world.sleep(2)
        world.reconciler().advance(work, time_left=lambda: 900)
        assert work.is_done


def test_a_long_search_keeps_its_lease(world: World) -> None:
    """Contacts past their retention: to be searched, and nothing else."""
    world.simulator.import_contacts(
        [
            {
                "Id": f"c{number}",
                "InstanceId": INSTANCE_ID,
                "Channel": "TASK",
                "InitiationMethod": "API",
                "DisconnectTimestamp": (minutes_ago(70) - timedelta(seconds=number)).isoformat(),
            }
            for number in range(1100)
        ]
    )
    slow = ContactSearch(world.connect, bucket=TokenBucket(0.06, clock=world.seconds, sleep=world.sleep))
    reconciler = world.reconciler("mine", search=slow, retention=HOUR)
    work = reconciler.past_work([INSTANCE], NOW - 2 * HOUR, NOW)
    spans = []

    def try_to_search_too(period: Period) -> None:
        spans.append(period.start)
        with pytest.raises(HeldError), world.journal.lease("other"):
            pass

    work.save = try_to_search_too
    reconciler.advance(work, time_left=lambda: 900)

    assert (work.is_done, len(spans) > 3) == (True, True)
    assert world.now - NOW > timedelta(minutes=3)


def test_runs_that_were_missed_are_made_good(world: World) -> None:
    world.run_recent()
    ended_at = world.now + 2 * HOUR
    world.sleep(40 * 3600)
    world.have("a", ended_at)

    world.run_recent(hours=3)

    assert world.captured() == {"a"}


def test_a_run_out_of_time_goes_on_where_it_stopped(world: World) -> None:
    for number in range(1200):
        world.have(f"c{number}", minutes_ago(200) + timedelta(seconds=4 * number), references=0)
    reconciler = world.reconciler()
    work = reconciler.recent_work([INSTANCE], 3 * HOUR)
    seconds = iter([900.0, 900.0, 59.0])
    reconciler.advance(work, time_left=lambda: next(seconds, 0.0))
    reached = work.left[0].start
    assert not work.is_done

    again = world.reconciler().recent_work([INSTANCE], timedelta(minutes=1))

    assert reached - HOUR < again.left[0].start <= reached


def test_throttled_searches_slow_down_and_then_fail_without_harm(world: World) -> None:
    world.have("a", minutes_ago(70))
    world.simulator.faults.inject({"operation": "SearchContacts", "kind": "throttle", "count": 4})
    reconciler = world.reconciler()
    work = reconciler.recent_work([INSTANCE], 3 * HOUR)
    with pytest.raises(RetriableError):
        reconciler.advance(work, time_left=lambda: 900)

    reconciler.advance(work, time_left=lambda: 900)

    assert (work.is_done, world.search.throttled_calls, world.queued()) == (True, 4, 1)


def test_each_hour_tells_what_became_of_its_contacts(world: World) -> None:
    hour = NOW.replace(minute=0) - 3 * HOUR
    told: list[tuple[datetime, int, int]] = []
    processing = {"Attachment": {"Name": "a", "Value": "s3://b/a", "Status": "PROCESSING"}}
    world.have("captured", hour + timedelta(minutes=5))
    world.have("unsettled", hour + timedelta(minutes=20), References=[processing])
    for name in ("captured", "unsettled"):
        world.simulator.complete(name)
    world.deliver()
    world.drain()
    world.have("missing", hour + timedelta(minutes=59, seconds=59.999))
    world.have("next", hour + HOUR)

    def tell(_: Instance, hour: datetime, tally: Tally) -> None:
        told.append((hour, tally.completed, tally.missing))

    reconciler = world.reconciler(report_hour=tell)

    world.run_recent(reconciler)

    assert world.coverage(hour) == {"completed": 3, "captured": 2, "missing": 1, "unsettled": 1, "given_up": 0}
    assert world.coverage(hour + HOUR) == {"completed": 1, "captured": 0, "missing": 1, "unsettled": 0, "given_up": 0}
    assert (hour, 3, 1) in told
    told.clear()
    world.run_recent(reconciler)
    assert world.coverage(hour)["missing"] == 0
    assert (hour, 3, 0) in told
    told.clear()
    world.run_recent(reconciler)
    assert hour not in [at for at, _, _ in told]


def test_a_look_that_is_due_ends_with_the_final_status(world: World) -> None:
    processing = {"Attachment": {"Name": "a", "Value": "s3://b/a", "Status": "PROCESSING"}}
    world.have("a", NOW - timedelta(seconds=10), References=[{"Url": {"Name": "u", "Value": "v"}}, processing])
    world.simulator.complete("a")
    world.deliver()
    world.drain()
    key = ContactKey(INSTANCE_ID, "a")
    calls = world.calls()
    looks = []
    for _ in range(26 * 4):
        world.sleep(15 * 60)
        looks.append(world.run_recent().counts["looks"])

    capture = world.ledger.find_capture(key)
    assert capture is not None
    assert [each.status for each in capture.references if each.reference_type == "ATTACHMENT"] == ["APPROVED"]
    assert sum(looks) == 3
    assert world.calls() - calls == 3
    assert world.ledger.find_entries([key])[key].settling.look_again_at is None


def test_an_instance_that_is_not_this_deployments_is_not_looked_at(world: World) -> None:
    processing = {"Attachment": {"Name": "a", "Value": "s3://b/a", "Status": "PROCESSING"}}
    world.have("a", NOW, References=[processing])
    world.simulator.complete("a")
    world.deliver()
    world.drain()
    world.sleep(3600)
    other = Instance(INSTANCE.region, INSTANCE.account, "another")

    reconciler = world.reconciler()
    reconciler.advance(Work([], looks_left=[other]), time_left=lambda: 900)

    assert world.queued() == 0


def backfill(world: World, holder: str = "me") -> Backfill:
    reconciler = world.reconciler(holder)
    return Backfill(reconciler=reconciler, journal=world.journal, find_instances=lambda: [INSTANCE], clock=world.clock)


def run_backfill(world: World, name: str, period: dict[str, str], *, killed_at: tuple[int, ...] = ()) -> int:
    """Do what the state machine does; return the number of rounds. Some rounds are killed after their work."""
    rounds = 0
    for window in backfill(world).plan(name, period)["windows"]:
        event = {key: value for key, value in window.items() if key != "backfill"}
        while True:
            rounds += 1
            result = backfill(world, f"holder {rounds}").advance_window(name, event, time_left=lambda: 900)
            if rounds in killed_at:
                continue  # the answer is lost, and asked for again
            if result["done"]:
                break
            world.capture_for(result["wait_seconds"])
    world.drain()
    return rounds


PERIOD = {"from": "2026-02-06", "to": "2026-03-08"}


def test_a_backfill_of_thirty_days_ends_with_every_contact_in_the_ledger(world: World) -> None:
    start = datetime(2026, 2, 6, tzinfo=UTC)
    names = {f"c{number}" for number in range(60)}
    for number in range(60):
        world.have(f"c{number}", start + timedelta(hours=12 * number), references=0)
    world.have("before", start - timedelta(seconds=1))
    world.have("after", datetime(2026, 3, 8, tzinfo=UTC))
    world.simulator.faults.inject({"operation": "SearchContacts", "kind": "throttle", "count": 2})

    run_backfill(world, "first", PERIOD, killed_at=(2, 5, 6, 20))

    assert world.captured() == names
    summary = world.item("BACKFILL#first", "SUMMARY")
    progress = {name: int(summary[name]) for name in ("windows", "windows_done", "seen", "queued", "already_there")}
    assert progress == {"windows": 30, "windows_done": 30, "seen": 60, "queued": 60, "already_there": 0}
    calls = world.calls()

    run_backfill(world, "second", PERIOD | {"from": "2026-03-01"})

    assert world.calls() == calls
    summary = world.item("BACKFILL#second", "SUMMARY")
    assert [int(summary[name]) for name in ("seen", "queued", "already_there")] == [14, 0, 14]


def test_a_window_that_was_cut_off_in_the_middle_goes_on_from_there(world: World) -> None:
    start = datetime(2026, 3, 8, tzinfo=UTC)
    for number in range(100):
        world.have(f"c{number}", start + timedelta(minutes=7 * number), references=0)
    window = {"from": "2026-03-08T00:00:00.000Z", "to": "2026-03-09T00:00:00.000Z"}
    backfill(world).advance_window("b", window, time_left=lambda: 900)
    sent = world.queued()
    world.drain()
    world.sleep(600)
    answers: list[dict[str, Any]] = []
    while not answers or not answers[-1]["done"]:
        answers.append(backfill(world, "another").advance_window("b", window, time_left=lambda: 900))
        world.capture_for(answers[-1]["wait_seconds"])
    world.drain()

    assert len(world.captured()) == 100
    assert {name: answers[-1][name] for name in ("seen", "queued", "already_there")} == {
        "seen": 100,
        "queued": 100,
        "already_there": 0,
    }
    assert sent == ROOM_SECONDS * RATE / 2
    assert world.calls() == 200
    completed = Counter(7 * number // 60 for number in range(100))
    hours = {hour: world.coverage(start + hour * HOUR)["completed"] for hour in range(12)}
    assert hours == completed


def test_a_window_that_is_noted_as_done_twice_counts_once(world: World) -> None:
    world.journal.begin_backfill("b", start=NOW - HOUR, end=NOW, windows=1)
    for _ in range(2):  # the first answer was lost
        world.journal.note_window("b", "w", left=[], counts=Counter(seen=5, queued=2, already_there=3))

    summary = world.item("BACKFILL#b", "SUMMARY")
    assert [int(summary[name]) for name in ("windows_done", "seen", "queued", "already_there")] == [1, 5, 2, 3]


@pytest.mark.parametrize(
    ("period", "says"),
    [
        ({"from": "2026-03-02", "to": "2026-03-01"}, "swap them"),
        ({"from": "2026-03-01", "to": "2026-03-01"}, "swap them"),
        ({"from": "2026-03-01", "to": "2026-04-01"}, "in the future"),
        ({"from": "2020-03-01", "to": "2026-03-01"}, "two years"),
        ({"from": "yesterday", "to": "2026-03-01"}, "from is 'yesterday'"),
        ({"from": "2026-03-01"}, "to is None"),
        ({"from": 5, "to": "2026-03-01"}, "from is 5"),
        ({"from": "2026-03-01", "to": "2026-03-02", "instance": "x"}, "'instance'"),
        ({"from": "2026-03-01", "to": "2026-03-02", "instanceArn": "x"}, "not the ARN"),
        ({"from": "2026-03-01", "to": "2026-03-02", "instanceArn": INSTANCE.arn + "0"}, INSTANCE_ID),
    ],
)
def test_a_period_that_cannot_be_reconciled_is_refused_with_a_sentence(
    world: World, period: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidPeriodError) as planned:
        backfill(world).plan("b", period)
    with pytest.raises(InvalidPeriodError) as by_hand:
        backfill(world).run_period(period, time_left=lambda: 900)
    assert says in str(planned.value)
    assert says in str(by_hand.value)
    assert world.calls("SearchContacts") == 0


def test_a_window_that_grew_too_old_before_its_turn_is_searched_as_far_as_it_can_be(world: World) -> None:
    window = {"from": "2024-03-10T13:00:00.000Z", "to": "2024-03-11T00:00:00.000Z"}
    backfill(world).plan("b", window)
    world.have("kept", datetime(2024, 3, 10, 20, tzinfo=UTC))
    world.sleep(3 * 3600)
    ages_ago = {"from": "2024-03-01T00:00:00.000Z", "to": "2024-03-02T00:00:00.000Z"}

    answers = [backfill(world).advance_window("b", each, time_left=lambda: 900) for each in (window, ages_ago)]

    assert [(each["done"], each["seen"]) for each in answers] == [(True, 1), (True, 0)]


def test_a_period_by_hand_is_worked_through_and_says_what_it_found(world: World) -> None:
    for number in range(40):
        world.have(f"c{number}", NOW - timedelta(days=2) + timedelta(minutes=number), references=0)
    period = {"from": "2026-03-08", "to": "2026-03-10", "instanceArn": INSTANCE.arn}

    result = backfill(world).run_period(period, time_left=lambda: 900)
    world.drain()

    assert result == {"done": True, "wait_seconds": 0, "seen": 40, "already_there": 0, "queued": 40}
    assert len(world.captured()) == 40


def test_what_is_left_is_named(world: World) -> None:
    work = world.reconciler().past_work([INSTANCE], NOW - timedelta(days=2), NOW - timedelta(days=1))

    assert summarize(work, wait_seconds=7) == {
        "done": False,
        "wait_seconds": 7,
        "seen": 0,
        "already_there": 0,
        "queued": 0,
        "left": [{"instanceId": INSTANCE_ID, "from": "2026-03-08T12:30:00.000Z", "to": "2026-03-09T12:30:00.000Z"}],
    }
