"""Options and profiles of all tests.

`--full-matrix` runs every fault and a hundred kills against the deployed system, and writes docs/faults.md.
`--hypothesis-profile=fuzz` draws new random examples, as many as a long run is worth, and prints how to repeat a
failure: `pytest tests/unit/test_fuzz.py tests/unit/test_state_machine.py --hypothesis-profile=fuzz`.
"""

import pytest
from hypothesis import settings

settings.register_profile("fuzz", max_examples=2000, database=None, print_blob=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full-matrix", action="store_true", help="every fault, a hundred kills; writes docs/faults.md")
