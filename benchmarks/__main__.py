"""Measurements run by hand: `python -m benchmarks NAME [--write]`. What they showed is in docs/benchmarks.md."""

import argparse
import ast
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

NAMES = ("function", "load", "cost", "scale", "check", "reconcile", "lookup", "tables", "status", "view", "erase")


def main(arguments: Sequence[str]) -> None:
    """Run one benchmark, print its tables and with --write put them into their documents."""
    form = argparse.RawDescriptionHelpFormatter
    about = {name: ast.get_docstring(ast.parse((Path(__file__).parent / f"{name}.py").read_text())) for name in NAMES}
    shows = "\n".join(f"  {name:10} {(text or '').splitlines()[0]}" for name, text in about.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, epilog=f"what each shows:\n{shows}", formatter_class=form
    )
    parser.add_argument("name", choices=NAMES, metavar="NAME", help="which; NAME --help has its options")
    name = parser.parse_args(arguments[:1]).name
    module = import_module(f"benchmarks.{name}")  # only this one: some start Node, or take a second
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {name}", description=about[name], formatter_class=form)
    parser.add_argument("--write", action="store_true", help="put the tables into their documents too")
    module.add_options(parser)
    options = parser.parse_args(arguments[1:])
    for section in module.run(options):
        print(f"{section.title}\n\n{section.body}\n")
        if options.write:
            section.write(f"python -m benchmarks {shlex.join(arguments)}")


if __name__ == "__main__":
    main(sys.argv[1:])
