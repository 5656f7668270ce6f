"""Write requirements.lock, requirements-dev.lock and envs/dode.yaml from the packages of this environment.

``python scripts/lock.py``. The first holds what ``pyproject.toml`` depends on and all that this needs in turn, the
second the rest of what the extras ``hub`` and ``dev`` need. Local version labels (``+cpu``) are left out: a lock names
a release, and which build of it is taken is the machine's affair.
"""

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(requirements, seen):
    """Add to ``seen`` (name -> version) every installed package that ``requirements`` need, directly or not."""
    for text in requirements:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if name not in seen:
            seen[name] = found.version.split("+")[0]
            closure(found.requires or [], seen)
    return seen


def write(path, packages, comment):
    lines = [f"# {comment}", "# Made by `make lock`."]
    lines += [f"{name}=={version}" for name, version in sorted(packages.items())]
    Path(path).write_text("\n".join(lines) + "\n")


def write_environment(path, packages):
    lines = ["# The packages of requirements.lock, for `--sdm conda`. Made by `make lock`.", "channels:"]
    lines += ["  - conda-forge", "  - nodefaults", "dependencies:", "  - python=3.11", "  - pip", "  - pip:"]
    lines += [f"      - {name}=={version}" for name, version in sorted(packages.items())]
    Path(path).write_text("\n".join(lines) + "\n")


def main():
    needed = metadata.distribution("dode").requires
    run = closure([text for text in needed if "extra ==" not in text], {})
    dev = closure([text.split(";")[0] for text in needed if "extra ==" in text], {})
    write("requirements.lock", run, "Everything that the workflow runs on.")
    write_environment("envs/dode.yaml", run)
    only_dev = {name: version for name, version in dev.items() if name not in run}
    write("requirements-dev.lock", only_dev, "What tests and style checks need besides requirements.lock.")


if __name__ == "__main__":
    main()
