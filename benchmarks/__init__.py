"""Measurements run by hand. Each writes its section of docs/benchmarks.md, with the command that repeats it."""

import sys
from pathlib import Path

# `python -m benchmarks.…` finds the functions' packages as the functions do.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lambdas"))
