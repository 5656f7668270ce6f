"""EDM's pickles: objects that carry the source of their class. The source is never run; the state is enough.

Such a pickle is a dictionary (``ema``, ``loss_fn``, ...). Each network in it, and each of its layers, is written as a
call ``torch_utils.persistence._reconstruct_persistent_obj(meta)``; ``meta`` has ``type``, ``version``, ``module_src``,
``class_name`` and ``state``, which is the module's ``__dict__``: ``_parameters``, ``_buffers``, ``_modules`` and the
arguments that it was made with. Containers such as ``torch.nn.ModuleDict`` stand between them.
"""

import hashlib
import mmap
from pathlib import Path
from typing import Any

from dode.checkpoints import tensors
from dode.checkpoints.pickles import CheckpointError, Interpreter, Recorded, dictionary, shown
from dode.checkpoints.torch_files import load_storage

MAX_DEPTH, MAX_MODULES, MAX_RECORDED = 64, 10_000, 10_000


def _persistent(meta):
    """In place of ``_reconstruct_persistent_obj``: what it is and what it holds."""
    if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("state"), dict):
        raise CheckpointError("a persistent object has no class and state")
    name, source = meta.get("class_name"), meta.get("module_src")
    if not isinstance(name, str) or not isinstance(source, str):
        raise CheckpointError("a persistent object's class or source is not text")
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    return Recorded(name, meta["state"], digest)


def _container(name):
    return lambda: Recorded(name, {})


def _text_set(items=()):
    """In place of ``set``, as protocols before 4 write it."""
    if not isinstance(items, list) or not all(type(item) is str for item in items):
        raise CheckpointError("the pickle has a set of something other than text")
    return set(items)


ALLOWED = {
    **tensors.COMMON,
    "torch_utils.persistence _reconstruct_persistent_obj": _persistent,
    "torch.storage _load_from_bytes": load_storage,
    **{
        f"torch.nn.modules.container {name}": _container(name)
        for name in ("ModuleDict", "ModuleList", "Sequential", "ParameterList")
    },
    "dnnlib.util EasyDict": dictionary,
    "builtins set": _text_set,
    "numpy dtype": tensors.NumpyType,
    "numpy.core.multiarray scalar": tensors.numpy_scalar,
    "numpy._core.multiarray scalar": tensors.numpy_scalar,
}


def load(path: str | Path) -> Any:
    """What the pickle at ``path`` holds, modules as :class:`Recorded`.

    Raises:
        CheckpointError: where it is broken or asks for anything outside of ``ALLOWED``.
    """
    with Path(path).open("rb") as file:
        if not file.read(1):
            raise CheckpointError("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            value = Interpreter(mapped, ALLOWED).load()
            if mapped.tell() != len(mapped):
                raise CheckpointError("the file continues after the end of its pickle")
            return value


def _part(module, name):
    part = module.state.get(name, {})
    if not isinstance(part, dict):
        raise CheckpointError(f"{name} of {shown(module.name)} is not a dictionary")
    return part


def flatten(module: Recorded) -> dict[str, Any]:
    """The state dict of a recorded module, named as ``torch.nn.Module.state_dict`` names it."""
    found = {}
    visits = _modules(module, "", 0)
    for count, (prefix, part) in enumerate(visits):
        if count >= MAX_MODULES:
            raise CheckpointError(f"the file has more than {MAX_MODULES} modules")
        passing = part.state.get("_non_persistent_buffers_set", ())
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _part(part, kind).items():
                if tensor is not None and not (kind == "_buffers" and isinstance(passing, set) and name in passing):
                    found[f"{prefix}{name}"] = tensor
    return found


def _modules(module, prefix, depth):
    """Generate (prefix, module) of a recorded module and those in it."""
    if depth > MAX_DEPTH:
        raise CheckpointError(f"modules are nested more than {MAX_DEPTH} deep")
    if not isinstance(module, Recorded):
        raise CheckpointError(f"{shown(prefix[:-1])} is {type(module).__name__}, not a module")
    yield prefix, module
    for name, child in _part(module, "_modules").items():
        if child is not None:
            yield from _modules(child, f"{prefix}{name}.", depth + 1)


def facts(module: Recorded) -> dict[str, Any]:
    """What a recorded module says of itself, as JSON takes it: class, arguments, digest of the source never run."""
    budget = [MAX_RECORDED]
    return {
        "class_name": module.name,
        "module_src_sha256": module.source,
        "init_args": _plain(module.state.get("_init_args"), budget),
        "init_kwargs": _plain(module.state.get("_init_kwargs"), budget),
    }


def _plain(value, budget, depth=0):
    budget[0] -= 1
    if budget[0] < 0 or depth > MAX_DEPTH:
        raise CheckpointError("the recorded arguments of the class are nested too deeply or are too many")
    if isinstance(value, dict):
        return {str(key): _plain(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, budget, depth + 1) for item in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return str(value)  # JSON has no infinity; EDM's sigma_max is one
    if isinstance(value, str | int | float | bool | None):
        return value
    raise CheckpointError(f"a recorded argument of the class is {type(value).__name__}, neither number nor text")
