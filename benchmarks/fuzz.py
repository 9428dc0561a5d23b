"""The tests' fuzzing, for as long as one likes: `python -m benchmarks.fuzz --seconds 600`.

Runs the state machine of captures and the fuzzing of events and references by turns, each turn with new random
examples. Stops at the first failure, with the smallest example that shows it; exits with 1 then.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

# The functions' package has to be found, and the tests take their number of examples when they are imported.
sys.path.insert(0, str(Path(__file__).parents[1] / "lambdas"))
settings.register_profile("long", max_examples=200, database=None, print_blob=True)
settings.load_profile("long")

from tests.unit import test_fuzz  # noqa: E402 - see above
from tests.unit.test_state_machine import NothingLost  # noqa: E402 - see above

MACHINE = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
TURNS: dict[str, tuple[int, Callable[[], None]]] = {
    "state machine": (40, lambda: run_state_machine_as_test(NothingLost, settings=MACHINE)),
    "events": (200, test_fuzz.test_any_event_is_a_completion_another_event_or_permanently_unusable),
    "records": (200, test_fuzz.test_any_record_of_a_queue_is_a_message),
    "references": (200, test_fuzz.test_any_members_become_as_many_references_whatever_their_order),
    "batches": (200, test_fuzz.test_every_message_is_let_go_dead_lettered_or_handed_back),
}
"""What is run by turns: how many examples a turn has, and one turn."""


def main() -> None:
    """Take turns until the time is up; tell what ran."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="how long to go on, about (default: %(default)s)")
    end = time.monotonic() + parser.parse_args().seconds
    counts: dict[str, int] = {}
    while time.monotonic() < end:
        for name, (examples, run) in TURNS.items():
            run()
            counts[name] = counts.get(name, 0) + examples
            print(f"{max(0, end - time.monotonic()):6.0f} s left  {counts[name]:7} examples of {name}", flush=True)
            if time.monotonic() >= end:
                break
    print(f"no failure in {sum(counts.values())} examples: " + ", ".join(f"{n} {name}" for name, n in counts.items()))


if __name__ == "__main__":
    main()
