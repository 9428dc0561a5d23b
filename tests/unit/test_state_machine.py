"""Nothing lost: contacts, reports, duplicates, faults and deaths in any order, and what is true in the end."""

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from local.in_memory.connect import Member
from tests.unit.world import (
    ANSWER_LOST,
    APPEND,
    CALLS,
    COMMIT,
    CONTACTS,
    DIES_AFTER,
    DIES_BEFORE,
    FAULTS,
    PUT_ROWS,
    UPDATE,
    VISIBLE,
    Process,
    World,
    file,
    url,
)

if TYPE_CHECKING:
    from datetime import datetime

# The calls that change something are met more often, and so are the faults after which nobody knows.
_CALLS = (*CALLS, PUT_ROWS, COMMIT, COMMIT, COMMIT, UPDATE, APPEND, APPEND)
_FAULTS = (*FAULTS, DIES_BEFORE, DIES_AFTER, ANSWER_LOST, ANSWER_LOST)
_CONTACT_IDS = ("voice", "voice", "voice", *CONTACTS)
_VISIBLE_IDS = ("voice", "voice", *VISIBLE)
DATED = ("voice", "leg")  # by a real disconnect timestamp
IS_FUZZING = settings.get_current_profile_name() == "fuzz"
_REPORTS = ("event", "event", "missed", "missed", "recheck")
_CHANGES = ("entered", "entered", "produced", "both", "unknown", "signatures", "unknown to Connect")
# What is put in one request, and a page's rows, are met from both sides.
_COUNTS = (*(0, 1, 1, 2, 3) * 6, 20, 21, 24, 25, 26, 51)


def draw_faults(draw: Random) -> dict[tuple[str, int], str]:
    """Draw what goes wrong; half of it happens to the SDK's second attempt as well, or nobody would notice."""
    faults: dict[tuple[str, int], str] = {}
    for _ in range(draw.choice([0, 0, 1, 1, 2, 3])):
        operation, number, fault = draw.choice(_CALLS), draw.choice([1, 1, 1, 2, 3]), draw.choice(_FAULTS)
        faults |= {(operation, number + attempt): fault for attempt in range(draw.choice([1, 2]))}
    return faults


def draw_schedule(draw: Random) -> list[int]:
    """Draw whose turn it is, one after the other, and for how many calls."""
    return [which for _ in range(25) for which in [draw.randrange(6)] * draw.choice([1, 1, 2, 3, 5, 8])]


def draw_members(draw: Random, kind: str) -> dict[str, list[Member]]:
    """Draw what Connect is to hold instead; names are often the same as before, values never."""
    version = draw.getrandbits(32)
    members: dict[str, list[Member]] = {}
    if kind in ("entered", "both"):
        numbers = range(draw.choice(_COUNTS))
        members["entered"] = [url(f"CRM {number}", f"https://crm.example/{version}/{number}") for number in numbers]
        members["entered"] += members["entered"][: draw.choice([0, 0, 1])]  # the very same once more
    if kind in ("produced", "both"):
        numbers = range(draw.choice([0, 1, 1, 2, 3]))
        statuses = ["PROCESSING", "APPROVED"]
        members["produced"] = [file(number, draw.choice(statuses), version=version) for number in numbers]
    if kind == "unknown":
        members["unknown"] = [{"Mood": {"Name": "tone", "Score": version}}]
    return members


class NothingLost(RuleBasedStateMachine):
    """Any history; at its end the faults stop, what is outstanding is delivered, and the books must balance."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.reports: dict[str, list[tuple[str, datetime]]] = {contact_id: [] for contact_id in CONTACTS}
        self.events: dict[str, list[dict[str, Any]]] = {}

    @initialize(known=st.sampled_from([VISIBLE, ("voice",), ()]))
    def connect_knows(self, known: tuple[str, ...]) -> None:
        for contact_id in known:
            self.world.hold(contact_id, entered=[url("CRM 0", "https://crm.example/first")])

    @rule(draw=st.randoms(use_true_random=True))
    def happens_at_once(self, draw: Random) -> None:
        """Report contacts, and deliver messages to one, two or three environments, the same ones perhaps.

        While they run, a reader reads, and what Connect holds changes; then time passes.
        """
        for _ in range(draw.choice([0, 1, 2, 3])):
            self._report(draw.choice(_CONTACT_IDS), draw.choice(_REPORTS), is_repeat=draw.random() < 1 / 2)
        processes = [self._delivery(draw) for _ in range(draw.choice([1, 2, 2, 3])) if self.world.queue]
        processes.append(Process(partial(self.world.read, draw.choice(_VISIBLE_IDS))))
        changed = draw.choices(_VISIBLE_IDS, k=draw.choice([0, 1, 2]))
        processes += [Process(partial(self._change, contact_id, draw)) for contact_id in changed]
        self.world.run(processes, draw_schedule(draw))
        self.world.clock.advance(seconds=draw.choice([0, 0.4, 1, 60, 1000, 4000]))
        if draw.random() < 1 / 3:
            self.world.redrive()

    def _delivery(self, draw: Random) -> Process:
        letters = draw.sample(self.world.queue, min(len(self.world.queue), draw.choice([1, 1, 2, 4])))
        deadline = draw.choice([*[None] * 9, 0, 1, 2, 3, 4])
        return self.world.delivery(
            *letters, faults=draw_faults(draw), deadline=deadline, behind=draw.choice([0, 0, 0, 5])
        )

    def _change(self, contact_id: str, draw: Random) -> None:
        kind = draw.choice(_CHANGES)
        members = draw_members(draw, kind)
        if kind == "signatures":
            produced = [of["Attachment"] for of in self.world.holdings[contact_id].members["produced"]]
            signed = [of["Value"].partition("=")[0] + f"={draw.getrandbits(32)}" for of in produced]
            members["produced"] = [{"Attachment": of | {"Value": to}} for of, to in zip(produced, signed, strict=True)]
        self.world.hold(contact_id, is_known=kind != "unknown to Connect", **members)

    def _report(self, contact_id: str, kind: str, *, is_repeat: bool = False) -> None:
        """Report a contact's completion, by the very event of before perhaps, or ask for it.

        Whom its completion event dates has only one. A recheck is only asked for of one that is captured.
        """
        events = self.events.setdefault(contact_id, [])
        if kind == "event" and events and (is_repeat or contact_id not in DATED):
            self.world.post(events[-1])
        elif kind == "event":
            letter = self.world.complete(contact_id, number=len(events), is_analyzed=contact_id == "task")
            events.append(letter.event)
            self._note_report(contact_id, kind)
        elif kind == "missed" or self.world.item(contact_id):
            self.world.request(contact_id, kind)
            self._note_report(contact_id, kind)

    def _note_report(self, contact_id: str, kind: str) -> None:
        now = self.world.clock.now
        self.reports[contact_id].append((kind, now))
        initial = CONTACTS[contact_id].get("initialContactId")
        if initial and kind != "recheck":
            self.reports[initial].append(("of a leg", now))

    @invariant()
    def nobody_is_misled(self) -> None:
        assert not self.world.problems

    def teardown(self) -> None:
        for contact_id in VISIBLE:
            self.world.hold(contact_id)
        self.world.settle()
        for contact_id, reports in self.reports.items():
            if self.world.item(contact_id) or any(kind != "of a leg" for kind, _ in reports):
                self._check_reports(contact_id)
                self.world.check_quiet(contact_id)
        self._capture_all_once_more()

    def _capture_all_once_more(self) -> None:
        """Let one more capture of each be without faults: nothing is left of any that died."""
        self.world.clock.advance(minutes=5)
        for contact_id in VISIBLE:
            entered = [*self.world.holdings[contact_id].members["entered"], url("one more")]
            self.world.hold(contact_id, entered=entered)
        for contact_id in CONTACTS:
            self._report(contact_id, "missed")
        self.world.settle()
        for contact_id in CONTACTS:
            self.world.check_quiet(contact_id)
            assert self.world.shown(contact_id) == self.world.held(contact_id)
            item = self.world.item(contact_id)
            assert item is not None
            assert {row["capture_id"] for row in self.world.rows(contact_id)} <= {item["capture_id"]}

    def _check_reports(self, contact_id: str) -> None:
        """Compare a contact with what was reported of it, and with what Connect said at its last reports or later."""
        item = self.world.item(contact_id)
        assert item is not None, f"{contact_id} is lost"
        expected = self._expected(contact_id)
        assert item.items() >= expected.items()
        assert item.keys() & {"channel", "completed_at"} == expected.keys() & {"channel", "completed_at"}
        holding, is_unknown = self.world.holdings[contact_id], item.get("is_unknown", False)
        said = holding.split(self.world.shown(contact_id))
        for kind, at in self.reports[contact_id]:
            for name, half in holding.halves.items():
                is_covered = half.was_since(at, said[name], is_unknown=is_unknown)
                # Who is not known to Connect, and is one who need not be, is as good as read.
                is_excused = (is_unknown or kind in ("of a leg", "recheck")) and half.was_unknown_since(at)
                is_asked_for = name == "produced" or kind != "recheck"
                assert is_covered or is_excused or not is_asked_for, f"{contact_id}: older than {kind} of {at}"

    def _expected(self, contact_id: str) -> dict[str, object]:
        """Tell what a contact's own reports say, whatever their order."""
        kinds = {kind for kind, _ in self.reports[contact_id]}
        facts = CONTACTS[contact_id]
        is_own = not kinds.isdisjoint({"event", "missed"})
        is_dated = contact_id in DATED  # else a request says no more than that there is such a contact
        expected: dict[str, object] = {"completion_seen": "event" in kinds or ("missed" in kinds and is_dated)}
        if is_own:
            initial = facts.get("initialContactId", contact_id)
            expected |= {"channel": facts["channel"].upper(), "initial_contact_id": initial}
        if is_own and is_dated:
            expected["completed_at"] = facts["disconnectTimestamp"]
        elif "event" in kinds:
            expected["completed_at"] = self.events[contact_id][0]["time"]
        return expected


NothingLost.TestCase.settings = settings(
    max_examples=settings().max_examples,
    stateful_step_count=40 if IS_FUZZING else 12,
    deadline=None,
    derandomize=not IS_FUZZING,
    phases=[Phase.generate],  # a step is but a seed: there is nothing to shrink that would not take minutes
    suppress_health_check=list(HealthCheck),
)
test_whatever_happens_nothing_is_lost_doubled_or_half_visible = NothingLost.TestCase
