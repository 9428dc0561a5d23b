"""Nothing of an erased contact comes back: captures, faults and deaths in any order with an erasure, and the end."""

from random import Random
from typing import Any

from hypothesis import settings

from contact_references.model.errors import CaptureError
from tests.unit.erasing import ErasingProcess, ErasingWorld, only_its_order
from tests.unit.test_state_machine import DATED, IS_FUZZING, draw_faults, draw_members
from tests.unit.world import (
    ANSWER_LOST,
    CONTACTS,
    DIES_AFTER,
    DIES_BEFORE,
    RESET,
    THROTTLED,
    UNAVAILABLE,
    VISIBLE,
    Process,
    url,
)

_FIRST = Random().getrandbits(32) if IS_FUZZING else 0  # noqa: S311 - a schedule
_SCHEDULES = settings().max_examples if IS_FUZZING else 100
_ENDS = (DIES_BEFORE, DIES_AFTER)
_FAULTS = (*_ENDS, *_ENDS, ANSWER_LOST, RESET, THROTTLED, UNAVAILABLE)
_LONGEST = 40  # calls of an erasure, about


class Play:
    """One schedule of captures and an erasure, as a seed draws it."""

    def __init__(self, seed: int) -> None:
        self.draw = Random(seed)  # noqa: S311 - a schedule
        self.world = ErasingWorld()
        self.named = self.draw.sample([*CONTACTS], self.draw.choice([1, 1, 2]))
        """Whom the erasure erases."""
        self.events: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        """Capture some contacts, then erase some while they, and others, are captured; look at what is left."""
        with only_its_order(self.draw):
            self._run()

    def _run(self) -> None:
        draw, world = self.draw, self.world
        for contact_id in VISIBLE:
            world.hold(contact_id, entered=[url("CRM", f"https://crm.example/{contact_id}")])
        for _ in range(draw.choice([1, 1, 2])):
            self._report()
            self._deliver().finish()
            world.clock.advance(minutes=draw.choice([0, 5]))
        self._erase()
        for contact_id in self.named:
            world.check_erased(contact_id)
        self._capture_all_once_more()
        for contact_id in self.named:
            world.check_erased(contact_id)
        for contact_id in CONTACTS.keys() - set(self.named):
            world.check_quiet(contact_id)
            assert world.shown(contact_id) == world.held(contact_id)

    def _erase(self) -> None:
        """Erase contacts, again and again until it is done; the fourth attempt meets no fault."""
        draw, world = self.draw, self.world
        for _ in range(draw.choice([1, 2, 3])):
            self._report()
        live = [self._deliver() for _ in range(draw.choice([1, 2, 3]))]
        for attempt in range(4):
            count = draw.choice([0, 0, 1, 1, 2]) if attempt < 3 else 0
            faults = {draw.randint(1, _LONGEST): draw.choice(_FAULTS) for _ in range(count)}
            erasure = world.erasure(self.named, faults)
            pauses = {number: draw.choice([5, 20]) for number in (0, draw.randint(1, 4), draw.randint(1, _LONGEST))}
            while not erasure.is_done:
                if draw.random() < 1 / 15:
                    self._report()
                if world.queue and len(live) < 3 and draw.random() < 1 / 8:
                    live.append(self._deliver())
                if draw.random() < 1 / 60:
                    world.clock.advance(minutes=draw.choice([1, 20]))
                is_paused = pauses.get(erasure.calls.total(), 0) > 0
                if is_paused:
                    pauses[erasure.calls.total()] -= 1
                if able := [*live, *([erasure] if erasure.can_go_on and not is_paused else [])]:
                    self._step(draw.choice(able))
                live = [process for process in live if not process.is_done]
            if erasure.error is None:
                break
            self._check_end(erasure)
        world.run(live, [draw.randrange(6) for _ in range(20)])
        assert erasure.error is None

    def _step(self, process: Process) -> None:
        for _ in range(self.draw.choice([1, 1, 2, 5])):
            if not process.is_done and (not isinstance(process, ErasingProcess) or process.can_go_on):
                process.step()

    def _check_end(self, erasure: ErasingProcess) -> None:
        """Check that an attempt ended early because of what went wrong, and not by itself."""
        assert erasure.has_failed, erasure.error
        assert isinstance(erasure.error, KeyboardInterrupt | CaptureError), erasure.error

    def _report(self) -> None:
        """Report a contact's completion, or ask for it; whom its completion event dates has only one."""
        draw, world = self.draw, self.world
        contact_id = draw.choice([*CONTACTS, *self.named, *self.named])
        kind = draw.choice(["event", "event", "missed", "recheck"])
        if draw.random() < 1 / 3 and contact_id in VISIBLE:
            world.hold(contact_id, is_known=True, **draw_members(draw, "both"))
        if kind == "recheck" and world.item(contact_id):
            world.request(contact_id, kind)
        elif kind != "event":
            world.request(contact_id, "missed")
        elif contact_id in self.events and (contact_id not in DATED or draw.random() < 1 / 2):
            world.post(self.events[contact_id])
        else:
            self.events[contact_id] = world.complete(contact_id, number=draw.getrandbits(32)).event

    def _deliver(self) -> Process:
        letters = self.draw.sample(self.world.queue, min(len(self.world.queue), self.draw.choice([1, 2, 4])))
        return self.world.delivery(*letters, faults=draw_faults(self.draw))

    def _capture_all_once_more(self) -> None:
        """Ask for every contact, after a change of each."""
        self.world.clock.advance(minutes=5)
        for contact_id in VISIBLE:
            self.world.hold(contact_id, entered=[url("one more")])
        for contact_id in CONTACTS:
            self.world.request(contact_id, "missed")
        self.world.settle()


def test_nothing_of_an_erased_contact_comes_back_and_no_other_is_harmed() -> None:
    for seed in range(_FIRST, _FIRST + _SCHEDULES):
        try:
            Play(seed).run()
        except AssertionError as error:
            error.add_note(f"to repeat it: Play({seed}).run()")
            raise
