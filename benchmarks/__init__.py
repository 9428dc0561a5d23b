"""Measurements run by hand; `python -m benchmarks --help` lists them."""

import sys
from pathlib import Path

# They find the functions' packages as the functions do.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lambdas"))
