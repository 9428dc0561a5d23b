"""What the repository holds: no secret, nothing of the machine it was written on, every dependency pinned."""

import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.13")

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


def pins(name: str) -> dict[str, str]:
    """The versions by package that a requirements file and those it includes pin; fails on anything but `==`."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text().splitlines():
        text = line.partition("#")[0].strip()
        if text.startswith("-r "):
            found |= pins(text.removeprefix("-r ").strip())
        elif text:
            match = re.fullmatch(r"([\w.-]+)==(\d[\w.]*)", text)
            assert match, f"{name}: {text!r} is not pinned"
            package = canonicalize_name(match[1])
            assert package not in found, f"{name}: {package} is there twice"
            found[package] = match[2]
    return found


def needs(package: str, python: str) -> set[str]:
    """The packages that an installed one asks for under a version of Python, without its extras."""
    requirements = map(Requirement, distribution(package).requires or [])
    environment = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    return {
        canonicalize_name(requirement.name)
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate(environment)
    }


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["requirements.txt", "lambdas/requirements.txt", "lambdas/tables/requirements.txt"])
def test_requirements_pin_whatever_their_packages_ask_for(name: str, python: str) -> None:
    pinned = pins(name)
    missing = {package: left for package in pinned if (left := needs(package, python) - pinned.keys())}
    assert missing == {}


@pytest.mark.parametrize("name", ["lambdas/requirements.txt", "lambdas/tables/requirements.txt"])
def test_what_the_functions_run_on_is_what_everything_is_tested_on(name: str) -> None:
    assert pins(name).items() <= pins("requirements.txt").items()


def test_what_is_installed_is_what_is_pinned() -> None:
    pinned = pins("requirements.txt")
    assert {package: distribution(package).version for package in pinned} == pinned


@pytest.mark.parametrize("package", pins("lambdas/requirements.txt"))
def test_what_the_functions_run_on_is_pure_python(package: str) -> None:
    installed = distribution(package)
    assert "Root-Is-Purelib: true" in (installed.read_text("WHEEL") or "")
    assert [str(file) for file in installed.files or [] if file.suffix in {".so", ".pyd", ".dylib", ".dll"}] == []
