"""The recipe of the container, which tests do not build: what it names is there, and pins are in one place."""

import re
import shlex

from workspace import REPOSITORY

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def test_what_is_copied_is_there():
    named = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ")]
    assert {"requirements.lock", "pyproject.toml"} <= set(named[0])
    assert all((REPOSITORY / path).exists() for paths in named for path in paths)
    ignored = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    wheel = re.search(r"WORKFLOW = \((.*)\)", (REPOSITORY / "setup.py").read_text(encoding="utf-8"))[1]
    needed = {*re.findall(r'"([\w.-]+)"', wheel), "dode", "setup.py", "README.md", "LICENSE"}
    assert not needed & set(ignored)


def test_the_lock_is_followed_and_torchs_pins_are_the_projects():
    instructions = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    assert "--require-hashes --no-deps" in instructions
    assert not re.search(r"==\d", instructions)
    program = re.search(r"python -c '(.*?)'", instructions, flags=re.DOTALL)[0].replace("\\\n", "")
    source = shlex.split(program)[2]
    found = []
    exec(
        source,
        {"print": lambda *pins, **_: found.extend(pins), "open": lambda *_: (REPOSITORY / "pyproject.toml").open("rb")},
    )
    assert [pin.split("==")[0] for pin in found] == ["torch", "torchvision"]


def test_a_user_without_an_account_has_a_name_and_a_home():
    """``--user 1234:1234`` has no entry in the image's passwd file, where Snakemake would look for the name."""
    environment = dict(re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"^ENV (.*)$", DOCKERFILE, flags=re.MULTILINE))))
    assert environment["USER"]
    assert environment["HOME"] == re.findall(r"^WORKDIR (.*)$", DOCKERFILE, flags=re.MULTILINE)[-1]
