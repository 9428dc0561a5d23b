"""How the code is laid out: who imports whom, who reads the environment, and what the package's map says."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import contact_references

ROOT = Path(__file__).parents[2]
LAMBDAS = ROOT / "lambdas"
PACKAGE = LAMBDAS / "contact_references"
LAYERS = ("model", "aws")
CAPABILITIES = sorted(
    path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists() and path.name not in LAYERS
)
FUNCTIONS = sorted(path.parent.name for path in LAMBDAS.glob("*/handler.py"))
MODULES = sorted(LAMBDAS.rglob("*.py"))
OURS = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"infra", "lambdas"}


def imports(source: str) -> Iterator[str]:
    """Yield the modules that a file imports, those for its annotations included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def read_from_environment(source: str) -> list[str]:
    """Return what a file names of the environment."""
    return re.findall(r"\b(?:environ|environb|getenv)\b", source)


def of_package(path: Path) -> set[str]:
    """Return the parts of the package that a file imports from: `model`, `aws`, `capture`."""
    names = (name.split(".") for name in imports(path.read_text()))
    return {name[1] for name in names if name[0] == "contact_references"}


def part_of(path: Path) -> str:
    """Return where a file belongs: a part of the package, or the name of a function."""
    first, second, *_ = path.relative_to(LAMBDAS).parts
    return second if first == "contact_references" else f"function {first}"


def allowed_imports(part: str) -> set[str]:
    if part == "__init__.py":
        return set()
    if part.startswith("function "):
        own = part.removeprefix("function ")
        return {"model", "aws", own} & {*LAYERS, *CAPABILITIES}
    return {"model": {"model"}, "aws": {"model", "aws"}}.get(part, {"model", "aws", part})


def test_there_is_something_to_look_at() -> None:
    assert "capture" in CAPABILITIES
    assert "capture" in FUNCTIONS
    assert {"model", "aws", "capture", "function capture"} <= set(map(part_of, MODULES))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(LAMBDAS)))
def test_imports_go_one_way_and_capabilities_never_import_each_other(path: Path) -> None:
    assert of_package(path) <= allowed_imports(part_of(path))
    assert not {name.split(".")[0] for name in imports(path.read_text())} & {*FUNCTIONS, *OURS}


@pytest.mark.parametrize("path", sorted((ROOT / "connect_simulator").glob("*.py")), ids=lambda path: path.stem)
def test_the_connect_simulator_uses_nothing_else_of_this_project(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path.read_text())} & (
        {*OURS, "contact_references"} - {path.parent.name}
    )


@pytest.mark.parametrize(("folder", "other"), [("tests", "benchmarks"), ("benchmarks", "tests")])
def test_tests_and_benchmarks_know_nothing_of_each_other(folder: str, other: str) -> None:
    names = {name for path in (ROOT / folder).rglob("*.py") for name in imports(path.read_text())}
    assert not {name for name in names if name.split(".")[0] == other}


@pytest.mark.parametrize("path", sorted((PACKAGE / "model").glob("*.py")), ids=lambda path: path.stem)
def test_the_model_imports_nothing_but_itself_and_the_standard_library(path: Path) -> None:
    others = {name.split(".")[0] for name in imports(path.read_text())} - {"contact_references"}
    assert others <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_handlers_read_the_environment(path: Path) -> None:
    assert read_from_environment(path.read_text()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "infra").glob("*.py")), ids=lambda path: path.stem)
def test_the_infrastructure_imports_no_function(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path.read_text())}
    assert roots.isdisjoint({"contact_references", "lambdas", *FUNCTIONS})


@pytest.mark.parametrize("path", sorted((ROOT / "infra").glob("*.py")), ids=lambda path: path.stem)
def test_only_the_app_reads_the_cdk_s_context(path: Path) -> None:
    assert re.findall(r"\b(?:try_get_context|get_context|get_all_context)\b", path.read_text()) == []
    assert "get_context" in (ROOT / "app.py").read_text() or "get_all_context" in (ROOT / "app.py").read_text()


def test_the_map_names_the_modules_that_exist_each_where_it_is() -> None:
    mapped: dict[str, set[str]] = {}
    folder = ""
    for line in (contact_references.__doc__ or "").splitlines():
        if match := re.match(r"(\w+)/ ", line):
            folder = match[1]
            mapped[folder] = set()
        elif match := re.match(r" {4}(\w+) ", line):
            assert match[1] not in mapped[folder], f"{match[1]} is there twice"
            mapped[folder].add(match[1])
    existing = {
        name: {path.stem for path in (PACKAGE / name).glob("*.py")} - {"__init__"} for name in (*LAYERS, *CAPABILITIES)
    }
    assert mapped == existing


@pytest.mark.parametrize("name", [*LAYERS, *CAPABILITIES])
def test_each_part_of_the_package_says_what_it_is_and_does_nothing_when_it_is_imported(name: str) -> None:
    [only] = ast.parse((PACKAGE / name / "__init__.py").read_text()).body
    assert isinstance(only, ast.Expr)
    assert isinstance(only.value, ast.Constant)


@pytest.mark.parametrize("path", sorted((ROOT / "ops").rglob("*.py")), ids=lambda path: path.stem)
def test_the_operator_s_commands_use_the_package_but_neither_handlers_nor_what_is_not_deployed(path: Path) -> None:
    names = set(imports(path.read_text()))
    roots = {name.split(".")[0] for name in names}
    assert roots.isdisjoint({*FUNCTIONS, "infra", "local", "benchmarks", "connect_simulator", "tests"})
    assert not {name for name in names if name.split(".")[-1] == "handler"}
    assert read_from_environment(path.read_text()) == []
