"""Pages that are made of something else: the configuration's keys of their schema, parts of their registries."""

import json
import os
import re
from pathlib import Path

import yaml

from dode import grids, solvers
from dode.distillation import learned
from dode.metrics.catalogue import METRICS
from dode.report.preface import escaped

FOLDER = "generated"
LARGE = 2**53  # a limit that only says which numbers a computer holds is left out
#: Files of the repository outside of ``docs`` that are pages too.
OUTSIDE = {
    "README.md": "readme",
    "CONTRIBUTING.md": "contributing",
    "CHANGELOG.md": "changelog",
    "benchmarks/README.md": "benchmarks",
}


def write(docs: Path) -> None:
    """Write the pages into a folder of ``docs``; a page that has not changed is left alone."""
    folder = docs / FOLDER
    folder.mkdir(exist_ok=True)
    schemas = docs.parent / "config" / "schemas"
    pages = {
        "configuration": _schema(schemas / "config.schema.yaml", "Keys of a configuration"),
        "parts": _parts(),
        **{path.stem: relinked(_notebook(path), f"docs/{path.name}") for path in docs.glob("*.ipynb")},
        **{
            page: relinked((docs.parent / path).read_text(encoding="utf-8"), path)
            for path, page in OUTSIDE.items()
            if (docs.parent / path).exists()
        },
    }
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def relinked(text: str, place: str) -> str:
    """The text of the file ``place`` of the repository, whose links to others lead to their pages."""

    def target(match):
        path, anchor = match[1], match[2] or ""
        whole = os.path.normpath(os.path.join(os.path.dirname(place), path))
        if whole in OUTSIDE:
            found = "index" if OUTSIDE[whole] == "readme" else f"{FOLDER}/{OUTSIDE[whole]}"
        elif whole.startswith("docs/") and whole.endswith(".md"):
            found = whole.removeprefix("docs/").removesuffix(".md")
        elif whole.startswith("docs/images/"):
            return f"](/{whole.removeprefix('docs/')})"
        else:
            return match[0]
        return f"](/{found}.md{anchor})"

    return re.sub(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)", target, text)


def _schema(path, title):
    schema = yaml.safe_load(path.read_text(encoding="utf-8"))
    lines = [
        f"# {title}\n",
        f"From `{os.path.relpath(path, path.parents[2])}`, against which every configuration is checked.\n",
    ]
    return "\n".join([*lines, *_keys(schema, schema, "", 0)]) + "\n"


def _keys(schema, whole, prefix, depth):
    """A line for each key, those of a mapping or of a list's entries below it."""
    for name, own in schema.get("properties", {}).items():
        own = {**_referred(own, whole), **own}
        place, text = f"{prefix}{name}", _plain(own.get("description", ""))
        facts = [_kind(own), "required" if name in schema.get("required", ()) else ""]
        if "default" in own and not isinstance(own["default"], dict):
            facts.append(f"default `{json.dumps(own['default'])}`")
        yield f"{'  ' * depth}- **`{place}`** ({', '.join(filter(None, facts))}) {text}"
        inner = own.get("items", own)
        below = f"{place}[]." if "items" in own else f"{place}."
        yield from _keys({**_referred(inner, whole), **inner}, whole, below, depth + 1)


def _referred(own, whole):
    reference = own.get("$ref", "")
    return whole["$defs"].get(reference.removeprefix("#/$defs/"), {}) if reference.startswith("#/$defs/") else {}


def _kind(own):
    if "enum" in own:
        return " or ".join(f"`{json.dumps(value)}`" for value in own["enum"])
    kinds = own.get("type", "any")
    found = " or ".join([kinds] if isinstance(kinds, str) else kinds)
    limits = {"minimum": "at least", "maximum": "at most"}
    said = [f"{word} {own[key]:,}" for key, word in limits.items() if key in own and own[key] < LARGE]
    return " ".join(filter(None, [found, " and ".join(said)]))


def _plain(text):
    """A text on one line, as Markdown."""
    return escaped(" ".join(text.split()))


def _parts():
    """Tables of solvers, grids, methods that learn, and metrics."""
    methods = [solvers.create(name).method for name in solvers.names()]
    rows = {
        "Solvers": [(each.name, each.options, each.source) for each in methods],
        "Grids": [(name, grids.defaults(name), grids.grids.get(name).source) for name in grids.names()],
        "Fits by methods of others": [_learned(learned.fits, name) for name in learned.fits.names()],
        "What prepares a solver": [_learned(learned.preparations, name) for name in learned.preparations.names()],
    }
    text = "# Parts\n\nWhat can be named in a configuration, with options, their defaults and whose it is.\n"
    for title, found in rows.items():
        if found:
            text += f"\n## {title}\n\n| name | options | source |\n|---|---|---|\n"
            text += "".join(
                f"| `{name}` | {_options(options)} | {source or '–'} |\n" for name, options, source in found
            )
    text += "\n## Metrics\n\n| name | unit | better | meaning |\n|---|---|---|---|\n"
    for name, each in METRICS.items():
        better = "lower" if each.lower_is_better else "higher"
        text += f"| `{name}` | {each.unit or '–'} | {better} | {_plain(each.description)} |\n"
    return text


def _learned(registry, name):
    own = registry.get(name)
    return name, own.options, own.source


def _options(options):
    return ", ".join(f"`{name}: {json.dumps(value, default=str)}`" for name, value in options.items()) or "–"


def _notebook(path):
    """A notebook as a page: its texts, its code, and what that printed when it was last run."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        printed = "".join(line for output in cell.get("outputs", ()) for line in output.get("text", ()))
        if printed:
            parts.append(f"```text\n{printed}```")
    return "\n\n".join(parts) + "\n"
