"""The key ``archives`` of a configuration's file, edited as text, so that comments and layout stay."""

import contextlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dode import storage
from dode.validation import ConfigError, read_mapping, read_text, read_yaml

Entry = Mapping[str, Any]


def of(config: Mapping[str, Any], path: str | Path) -> list[dict[str, Any]]:
    """The entries of a configuration, which is the file ``path``; ConfigError where they are none."""
    found = config.get("archives") or []
    if not isinstance(found, list) or not all(
        isinstance(each, dict) and isinstance(each.get("file"), str) and isinstance(each.get("sha256"), str)
        for each in found
    ):
        raise ConfigError(f"{path}: archives: is no list of entries with file and sha256; mend it first")
    return found


def number(entries: Sequence[Entry], file: str) -> int:
    """The number, from 1, that an archive has or will have among those of a configuration."""
    return next((index for index, own in enumerate(entries, 1) if Path(own["file"]) == Path(file)), len(entries) + 1)


def put(path: str | Path, entry: Entry) -> bool:
    """Put an archive's entry at the end of ``archives``; where the file has one, its checksum is made that of now.

    Returns:
        Whether the configuration has changed.

    Raises:
        ConfigError: where the configuration is not laid out so that this can be done; it is left as it is, and the
            message has what is to be written by hand.
    """
    text, before = read_text(path), read_mapping(path)
    entries = of(before, path)
    place = number(entries, entry["file"]) - 1
    wanted = {**before, "archives": [*entries[:place], dict(entry), *entries[place + 1 :]]}
    if wanted == before:
        return False
    if text.lstrip().startswith("{"):
        new = json.dumps(wanted, indent=1, ensure_ascii=False) + "\n"
    elif place < len(entries):
        new = text.replace(entries[place]["sha256"], entry["sha256"])
    else:
        new = _with_item(text, json.dumps(entry, ensure_ascii=False))
    if _value(path, new) != wanted:
        raise ConfigError(
            f"{path}: archives: cannot be edited as it is laid out; write by hand, under archives: "
            f"- {json.dumps(entry, ensure_ascii=False)}"
        )
    storage.write_where_told(path, new)
    return True


def _with_item(text: str, item: str) -> str:
    """The text of a configuration with one more item in its list ``archives``, which is made where there is none."""
    lines = text.splitlines()
    start = next((index for index, line in enumerate(lines) if re.match(r"archives\s*:", line)), None)
    if start is None:
        return "\n".join([*lines, "", "archives:", f"  - {item}", ""])
    lines[start] = re.sub(r"\[\s*\]", "", lines[start]).rstrip()
    # What belongs to the list is indented or begins with a dash; blank lines and comments after it do not.
    following = (index for index, line in enumerate(lines[start + 1 :], start + 1) if re.match(r"\s+\S|-\s", line))
    own = [index for index in following if not re.match(r"\s*#", lines[index]) and _all_of_it(lines[start + 1 : index])]
    indent = lines[own[0]][: -len(lines[own[0]].lstrip())] if own else "  "
    lines.insert(own[-1] + 1 if own else start + 1, f"{indent}- {item}")
    return "\n".join([*lines, ""])


def _all_of_it(lines: list[str]) -> bool:
    return all(re.match(r"\s|-\s|#|\Z", line) for line in lines)


def _value(path: str | Path, text: str) -> Any:
    """What a text says, read as the configuration will be; None where it says nothing."""
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ConfigError):
        copy = Path(folder) / Path(path).name
        copy.write_text(text, encoding="utf-8")
        return read_yaml(copy)
    return None
