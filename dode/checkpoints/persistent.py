"""EDM's pickles: objects that carry the source of their class. The source is never run; the state is enough.

Such a pickle is a dictionary (``ema``, ``loss_fn``, ...). Each network in it, and each of its layers, is written as a
call ``torch_utils.persistence._reconstruct_persistent_obj(meta)``; ``meta`` has ``type``, ``version``, ``module_src``,
``class_name`` and ``state``, which is the module's ``__dict__``: ``_parameters``, ``_buffers``, ``_modules`` and the
arguments that it was made with. Containers such as ``torch.nn.ModuleDict`` stand between them.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dode.checkpoints import tensors
from dode.checkpoints.pickles import Interpreter, Left, Recorded, Work, dictionary
from dode.checkpoints.torch_files import storage_within
from dode.weights import foreign_json, sources
from dode.weights.errors import CheckpointError, kind_of, shown
from dode.weights.views import Storage, View

MAX_DEPTH, MAX_MODULES, MAX_ENTRIES, MAX_NAME = 64, 10_000, 100_000, 500
MAX_RECORDED, MAX_TEXT = 10_000, 1_000_000


def _container(name):
    return lambda: Recorded(name, {})


ALLOWED: dict[str, Callable | None] = {
    **tensors.COMMON,
    **{
        f"torch.nn.modules.container {name}": _container(name)
        for name in ("ModuleDict", "ModuleList", "Sequential", "ParameterList")
    },
    "dnnlib.util EasyDict": dictionary,
}


def _of_file(work):
    """What is done besides :data:`ALLOWED`: calls that cost as much as their arguments, counted for the whole file."""

    def text_set(items=()):
        """In place of ``set``, as protocols before 4 write it."""
        if not isinstance(items, list):
            return Left("a set")
        work.take(len(items))
        return {item for item in items if type(item) is str}

    digests: dict[int, tuple[str, str]] = {}

    def persistent(meta):
        """In place of ``_reconstruct_persistent_obj``: what it is and what it holds."""
        if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
            raise CheckpointError("a persistent object has no class and state")
        name, source = meta.get("class_name"), meta.get("module_src")
        if not isinstance(name, str) or not isinstance(source, str):
            raise CheckpointError("a persistent object's class or source is not text")
        if id(source) not in digests:  # all layers share one
            digests[id(source)] = source, hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
        return Recorded(name, meta["state"], digests[id(source)][1])

    storages: dict[int, tuple[sources.Source, Storage]] = {}

    def storage(data):
        """In place of ``torch.storage._load_from_bytes``: once for each stretch of bytes, however often it is named."""
        if id(data) not in storages:
            storages[id(data)] = data, storage_within(data, work)
        return storages[id(data)][1]

    return {
        "builtins set": text_set,
        "__builtin__ set": text_set,
        "torch.storage _load_from_bytes": storage,
        "torch_utils.persistence _reconstruct_persistent_obj": persistent,
    }


def load(path: str | Path) -> Any:
    """What the pickle at ``path`` holds, modules as :class:`Recorded`.

    Raises:
        CheckpointError: where it is broken or asks for anything to be run.
    """
    file, work = sources.of_file(path), Work()
    if file.size == 0:
        raise CheckpointError("the file is empty")
    value = Interpreter(file, ALLOWED | _of_file(work), work=work).load()
    if file.tell() != file.size:
        raise CheckpointError("the file continues after the end of its pickle")
    return value


def _part(module, name):
    part = module.state.get(name)
    if not isinstance(part, dict):
        raise CheckpointError(f"{name} of {shown(module.name)} is not a dictionary")
    if (odd := getattr(part, "odd", None)) is not None or not all(isinstance(key, str) for key in part):
        raise CheckpointError(f"{name} of {shown(module.name)} has an entry whose name is not text: {odd}")
    return part


def flatten(module: Recorded) -> dict[str, Any]:
    """The state dict of a recorded module, named as ``torch.nn.Module.state_dict`` names it."""
    found: dict[str, Any] = {}
    entries = 0
    for count, (prefix, part) in enumerate(_modules(module, "", 0)):
        passing = part.state.get("_non_persistent_buffers_set", ())
        parts = {kind: _part(part, kind) for kind in ("_parameters", "_buffers")}
        entries += sum(map(len, parts.values()))
        if count >= MAX_MODULES or entries > MAX_ENTRIES:
            raise CheckpointError(f"the file has more than {MAX_MODULES} modules or {MAX_ENTRIES} parameters")
        for kind, own in parts.items():
            for name, tensor in own.items():
                if tensor is not None and not (kind == "_buffers" and isinstance(passing, set) and name in passing):
                    found[_joined(prefix, name)] = tensor
    return found


def _modules(module, prefix, depth):
    """Generate (prefix, module) of a recorded module and those in it."""
    if depth > MAX_DEPTH:
        raise CheckpointError(f"modules are nested more than {MAX_DEPTH} deep")
    if not isinstance(module, Recorded):
        raise CheckpointError(f"{shown(prefix[:-1])} is {kind_of(module)}, not a module")
    yield prefix, module
    for name, child in _part(module, "_modules").items():
        if child is not None:
            yield from _modules(child, _joined(prefix, name) + ".", depth + 1)


def _joined(prefix, name):
    if len(prefix) + len(name) > MAX_NAME:
        raise CheckpointError(f"a parameter's name has more than {MAX_NAME} characters")
    return prefix + name


def facts(module: Recorded) -> dict[str, Any]:
    """What a recorded module says of itself, as JSON takes it: class, arguments, digest of the source never run."""
    budget = _Budget()
    return {
        "class_name": budget.plain(module.name),
        "module_src_sha256": module.source,
        "init_args": budget.plain(module.state.get("_init_args")),
        "init_kwargs": budget.plain(module.state.get("_init_kwargs")),
    }


class _Budget:
    """How many values and characters of recorded arguments are kept: one value may stand in many places."""

    def __init__(self):
        self.values, self.text = MAX_RECORDED, MAX_TEXT

    def plain(self, value, depth=0):
        self.values -= 1
        self.text -= len(value) if isinstance(value, str) else 0
        if min(self.values, self.text) < 0 or depth > MAX_DEPTH:
            raise CheckpointError("the recorded arguments of the class are nested too deeply or are too many")
        if isinstance(value, Left):
            return f"<{kind_of(value)}>"
        if isinstance(value, dict):
            keys = (self.plain(str(key), depth) for key in value)
            return {key: self.plain(item, depth + 1) for key, item in zip(keys, value.values(), strict=True)}
        if isinstance(value, list | tuple) and not isinstance(value, View):
            return [self.plain(item, depth + 1) for item in value]
        if isinstance(value, float) and not -float("inf") < value < float("inf"):
            return str(value)  # JSON has no infinity; EDM's sigma_max is one
        if isinstance(value, int) and not foreign_json.LEAST <= value <= foreign_json.MOST:
            return f"<{shown(value)}>"  # the header could not be read again
        if isinstance(value, str | int | float | bool | None):
            return value
        return f"<{kind_of(value)}>"
