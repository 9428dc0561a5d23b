"""What the repository holds: no secret, nothing of the machine it was written on, every dependency locked."""

import json
import re
import subprocess
import tomllib
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.13")
LOCKS = ("requirements-uv.txt", "requirements.txt", "lambdas/requirements.txt", "lambdas/tables/requirements.txt")
WORKFLOW = ROOT / ".github/workflows/ci.yml"

SECRETS = {
    # AWS's own made-up keys end in EXAMPLE.
    "access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{9}(?!EXAMPLE)[0-9A-Z]{7}\b",
    "secret key": r"(?i)(?:secret|token|password)\w*[\"']?\s*[:=]\s*[\"']?[0-9A-Za-z/+=]{32,}",
    "private key": "-----BEGIN [A-Z ]*PRIVATE KEY" + "-----",
    "token": r"\b(?:gh[pousr]_|github_pat_|pypi-|xox[abprs]-)\w{20,}",
    "password in a URL": r"https?://[^\s/:@\"'`]+:[^\s/:@\"'`]+@(?!\S*\bexample\.)[\w.-]+",
}
MACHINE = {
    "home directory": r"(?<![\w.*}])/(?:home|root|Users)/\w",
    "package index": r"https?://[^\s\"'`]+/simple\b|--(?:index-url|trusted-host)[ =]+\w",
}


def tracked_files() -> dict[str, str]:
    """The text files that git tracks or would add, by name."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository: nothing tells the project's files from others")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    files = {}
    for name in names:
        path = ROOT / name
        if path.is_file():
            content = path.read_bytes()
            if b"\0" not in content:
                files[name] = content.decode()
    return files


@pytest.mark.parametrize("pattern", [*SECRETS.values(), *MACHINE.values()], ids=[*SECRETS, *MACHINE])
def test_no_file_holds_a_secret_or_names_a_machine(pattern: str) -> None:
    found = [(name, match[0]) for name, text in tracked_files().items() for match in re.finditer(pattern, text)]
    assert found == []


def test_no_file_names_the_folder_that_it_is_in() -> None:
    assert [name for name, text in tracked_files().items() if f"{ROOT}/" in text] == []


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("access key", "AWS_ACCESS_KEY_ID=AKIA" + "Q3EGRZ5K7WJ2MNB4"),
        ("secret key", 'aws_secret_access_key = "' + "wJalrXUtnFEMI/K7MDENG+" * 2),
        ("private key", "-----BEGIN RSA PRIVATE KEY" + "-----"),
        ("token", "ghp_" + "a1B2" * 9),
        ("password in a URL", "https://" + "user:secret@registry.internal/"),
        ("home directory", "see /" + "home/somebody/project"),
        ("package index", "https://mirror.internal/pypi" + "/simple"),
        ("package index", "--trusted" + "-host mirror.internal"),
    ],
)
def test_the_patterns_find_what_they_look_for(kind: str, text: str) -> None:
    assert re.search((SECRETS | MACHINE)[kind], text)


@dataclass(frozen=True)
class Pin:
    """A locked package: its version, when it is installed, the hashes that it may have."""

    version: str
    marker: Marker | None
    hashes: frozenset[str]

    def applies(self, **environment: str) -> bool:
        """Whether this machine installs it, or one like it but for the environment."""
        return self.marker is None or self.marker.evaluate({**environment})


def logical_lines(name: str) -> list[str]:
    """A requirements file's lines, without comments."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [line for text_ in text.splitlines() if (line := re.sub(r"(^|\s)#.*", "", text_).strip())]


def locked(name: str) -> dict[str, Pin]:
    """The pins of a lock file by package; fails on anything that is not pinned, or not known by its hashes."""
    pins: dict[str, Pin] = {}
    for line in logical_lines(name):
        text, *hashes = re.split(r"\s+--hash=", line)
        requirement = Requirement(text)
        package = canonicalize_name(requirement.name)
        match = re.fullmatch(r"==(\d[\w.]*)", str(requirement.specifier))
        assert match, f"{name}: {text!r} is not pinned"
        assert hashes, f"{name}: {text!r} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), f"{name}: {text!r}"
        assert package not in pins, f"{name}: {package} is there twice"
        pins[package] = Pin(match[1], requirement.marker, frozenset(hashes))
    return pins


def asked_for(name: str) -> dict[str, str]:
    """The version of each package that a lock's .in file names."""
    lines = [line for line in logical_lines(name) if not line.startswith("-r ")]
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in requirements}


def needs(package: str, python: str) -> set[str]:
    """The packages that an installed one asks for under a version of Python, without its extras."""
    requirements = map(Requirement, distribution(package).requires or [])
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    return {
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_what_its_in_file_names_and_says_how_it_was_made(name: str) -> None:
    asked = asked_for(name.replace(".txt", ".in"))
    pinned = locked(name)
    assert asked
    assert {package: pin.version for package, pin in pinned.items() if package in asked} == asked
    assert (
        (ROOT / name)
        .read_text()
        .startswith("# This file was autogenerated by uv via the following command:\n#    make lock\n")
    )


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS[1:])  # uv needs nothing, and is not among what it installs
def test_requirements_pin_whatever_their_packages_ask_for(name: str, python: str) -> None:
    pinned = {package for package, pin in locked(name).items() if pin.applies(python_version=python)}
    missing = {package: left for package in pinned if (left := needs(package, python) - pinned)}
    assert missing == {}


@pytest.mark.parametrize("name", ["lambdas/requirements.txt", "lambdas/tables/requirements.txt"])
def test_what_the_functions_run_on_is_what_everything_is_tested_on(name: str) -> None:
    assert locked(name).items() <= locked("requirements.txt").items()


def test_what_is_installed_is_what_is_pinned() -> None:
    pinned = {package: pin.version for package, pin in locked("requirements.txt").items() if pin.applies()}
    assert {package: distribution(package).version for package in pinned} == pinned


@pytest.mark.parametrize("package", locked("lambdas/requirements.txt"))
def test_what_the_functions_run_on_is_pure_python(package: str) -> None:
    installed = distribution(package)
    assert "Root-Is-Purelib: true" in (installed.read_text("WHEEL") or "")
    assert [str(file) for file in installed.files or [] if file.suffix in {".so", ".pyd", ".dylib", ".dll"}] == []


def test_the_cdk_s_command_line_is_pinned_as_the_public_registry_has_it() -> None:
    asked = json.loads((ROOT / "package.json").read_text())["devDependencies"]
    packages = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert packages[""]["devDependencies"] == asked
    installed = {name.removeprefix("node_modules/"): package for name, package in packages.items() if name}
    assert asked.items() <= {name: package["version"] for name, package in installed.items()}.items()
    for name, package in installed.items():
        assert package["resolved"].startswith("https://registry.npmjs.org/"), name
        assert re.fullmatch(r"sha512-[\w+/]+=*", package["integrity"]), name


def test_the_project_says_the_same_of_python_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    makefile, workflow = (ROOT / "Makefile").read_text(), WORKFLOW.read_text()
    [oldest, newest] = PYTHONS
    assert project["requires-python"] == f">={oldest}"
    assert f"--python-version {oldest} " in makefile
    assert f">= ({oldest.replace('.', ', ')})" in makefile
    assert re.findall(r"python: \[(.*)\]", workflow) == [f'"{oldest}", "{newest}"']
    assert (ROOT / ".python-version").read_text() == f"{newest}\n"


def test_the_project_has_a_version_that_the_changelog_leads_to_and_a_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    licence = json.loads((ROOT / "package.json").read_text())["license"]
    assert project["license"] == licence == "Apache-2.0"
    headings = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert project["version"] == next(iter(headings[1:]), "0.0.0")


def test_the_workflow_runs_what_the_readme_says_and_the_checks() -> None:
    workflow = WORKFLOW.read_text()
    assert re.findall(r"run: (make \w+)", workflow) == ["make check", "make demo", "make test"]
    actions = re.findall(r"uses: (\S+)", workflow)
    assert actions
    assert [action for action in actions if not re.fullmatch(r"[\w-]+/[\w-]+@v\d+", action)] == []


def test_the_contributor_s_guide_names_what_is_there() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    files = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w.-]+\.(?:py|json|md|toml|txt|in))`", guide))
    targets = set(re.findall(r"`make (\w+)", guide))
    assert len(files) > 10
    assert {name for name in files if not (ROOT / name).exists()} == set()
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name, symbol in re.findall(r"`([\w/]+\.py)`: `(\w+)`", guide):
        assert re.search(rf"\b{symbol}\b", (ROOT / name).read_text()), f"{name} has no {symbol}"
