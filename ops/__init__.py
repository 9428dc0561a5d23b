"""The operator's command line: see a deployed system, steer it, repair it. `python -m ops --help`."""

import sys
from pathlib import Path

# It uses the functions' package, found as the functions find it.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lambdas"))
