"""A pickle read as data: an interpreter of the few opcodes that checkpoints have, which imports and calls nothing.

Python's own unpickler finds and calls whatever a file names. This one knows a file's globals only as names: each is
looked up in a short table that the caller gives, whose entries are functions of this package that check their arguments
and return plain values. An object of any other class becomes a :class:`Left`, which has the class's name and nothing
else, so that what stands beside the weights need not be understood. What no data needs (:func:`_is_data`) is refused
instead, with one error that names it: such a file was made to run something.

Memory and time are bounded by the file. No length is believed before the bytes are there, and bytes stay in the file
until they are needed; dictionaries have strings or integers as keys, so that nothing is hashed that a file could nest;
what a function of the table returns is no larger than what the file spends on the call; and the opcodes are counted.
"""

import functools
import pickletools
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dode.weights.errors import CheckpointError, shown
from dode.weights.sources import Source

# The largest published file (EDM's ImageNet-64) needs some 10^5.
MAX_OPCODES = 1_000_000
# Of the standard library, by module: the classes of data that programs put beside their weights.
_BUILTINS = (
    r"bool|bytearray|bytes|complex|dict|float|frozenset|int|list|long|object|range|set|slice|str|tuple|type|"
    "unicode|xrange"
)
_DATA = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS,
    "argparse": "Namespace",
    "array": "array|_array_reconstructor",
    "collections": "Counter|OrderedDict|defaultdict|deque",
    "copyreg": "_reconstructor|__newobj__",
    "copy_reg": "_reconstructor|__newobj__",
    "datetime": r"\w+",
    "decimal": "Decimal",
    "enum": r"\w+",
    "fractions": "Fraction",
    "functools": "partial",
    "pathlib": r"\w*Path",
    "random": "Random",
    "time": "struct_time",
    "types": "SimpleNamespace",
    "uuid": "UUID|SafeUUID",
    "zoneinfo": "ZoneInfo",
    "torch.serialization": "_get_layout",
    "torch": r"device|dtype|layout|Size|Generator|\w+Storage|\w*Tensor|\w+_format|per_\w+|\w*(int|float|bool)\w*|"
    r"complex\d+",
}
_OF_TORCH = ("torch._C", "torch._tensor", "torch._utils", "torch.nn", "torch.optim", "torch.amp", "torch.cuda.amp")


def _is_data(module: str, name: str) -> bool:
    """Whether a global may be that of an object beside the weights.

    That is a convenience for the one who has a hostile file, not what makes reading it safe: nothing is imported or
    called whatever this answers. Classes of other packages are not known here, so all are taken for data.
    """
    if module in _DATA:
        return re.fullmatch(_DATA[module], name, re.ASCII) is not None
    if module.split(".")[0] == "torch":
        return any(f"{module}.".startswith(f"{known}.") for known in _OF_TORCH)
    return module.split(".")[0] not in sys.stdlib_module_names | {"commands", "nt", "dode"}


class Work:
    """How much a file may still ask for: opcodes, and entries that are copied."""

    def __init__(self) -> None:
        self.left = MAX_OPCODES

    def take(self, count: int = 1) -> None:
        """Use some of it up."""
        self.left -= count
        if self.left < 0:
            raise CheckpointError(f"the pickle has more than {MAX_OPCODES} opcodes")


class Global(NamedTuple):
    """A global that a file names, and what is done here in its place; None for what is only named, never called."""

    name: str
    rebuild: Callable | None


class Dictionary(dict):
    """A dictionary, ordered or not. ``odd`` is one of its keys that was left out, as it is neither text nor index."""

    __slots__ = ("odd",)

    def build(self, state: object) -> None:
        """Leave out what the file says of it besides: metadata, or attributes that would shadow methods."""


class Left(Dictionary):
    """An object that is not made here: the name of its class, and its items where it is a kind of dictionary."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        super().__init__()
        self.name = name


class Recorded:
    """An object of a class that is not made here: the class's name and the state that the file has of it."""

    __slots__ = ("name", "source", "state")

    def __init__(self, name: str, state: dict[str, Any], source: str | None = None):
        self.name, self.state, self.source = name, state, source

    def build(self, state: object) -> None:
        """Take in the state that follows the object in the file."""
        if not isinstance(state, dict) or self.state:
            raise CheckpointError(f"the state of {shown(self.name)} is not a dictionary, or is given twice")
        self.state = state


def dictionary() -> Dictionary:
    """In place of ``collections.OrderedDict`` and the like, which are pickled empty and then filled."""
    return Dictionary()


def _leave(name, *_):
    return Left(name)


class Interpreter:
    """One pickle.

    Args:
        file: where it begins; :meth:`load` leaves it behind the pickle's last opcode.
        allowed: ``"module name" -> function``, or None for what may be named but not called.
        persistent: function of a persistent id; None where none may occur.
        work: what is left to do for the file that the pickle is in.
    """

    def __init__(
        self,
        file: Source,
        allowed: Mapping[str, Callable | None],
        persistent: Callable[[Any], Any] | None = None,
        work: Work | None = None,
    ):
        self.file, self.allowed, self.persistent, self.work = file, allowed, persistent, work or Work()
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value.

        Raises:
            CheckpointError: whatever is wrong with the pickle.
        """
        if self.file.read(1) != b"\x80" or self.file.read(1) not in (b"\2", b"\3", b"\4", b"\5"):
            raise CheckpointError("not a pickle of a protocol from 2 to 5")
        while True:
            self.work.take()
            position = self.file.tell()
            opcode = _BY_CODE.get(self.file.read(1))
            if opcode is None:
                raise CheckpointError(f"broken pickle: it ends, or has an unknown opcode, at byte {position}")
            if opcode.name == "STOP":
                if len(self.stack) != 1 or self.marks:
                    raise CheckpointError("broken pickle: it ends with something left over")
                return self.stack[0]
            operation = OPERATIONS.get(opcode.name)
            if operation is None:
                raise CheckpointError(
                    f"the pickle has the opcode {opcode.name} (byte {position}), which is not supported"
                )
            argument = self._argument(opcode, position)
            try:
                operation(self, argument)
            except (IndexError, KeyError, TypeError) as error:
                kind = type(error).__name__
                raise CheckpointError(f"broken pickle: {opcode.name} at byte {position} fails ({kind})") from None

    def _argument(self, opcode, position):
        if opcode.arg is None:
            return None
        try:
            if opcode.name in _LENGTHS:
                width = _LENGTHS[opcode.name]
                return self.file.take(int.from_bytes(self.file.read(width), "little"))
            return opcode.arg.reader(self.file)
        except Exception as error:
            raise CheckpointError(f"broken pickle: {opcode.name} at byte {position}: {str(error)[:200]}") from None

    def pop_mark(self) -> list[Any]:
        """What was put on the stack since the last mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def top(self, *kinds: type) -> Any:
        """The value on top of the stack, which must be of one of ``kinds``."""
        value = self.stack[-1]
        if type(value) not in kinds:
            raise CheckpointError(f"broken pickle: {type(value).__name__} where {kinds[0].__name__} should be")
        return value

    def find(self, module: object, name: object) -> None:
        """A global by name: from the table, or as something that is left."""
        if not isinstance(module, str) or not isinstance(name, str) or len(module) + len(name) > 500:
            raise CheckpointError("broken pickle: a global whose name is not text, or is very long")
        key, shown_name = f"{module} {name}", f"{shown(module)[1:-1]}.{shown(name)[1:-1]}"
        if key not in self.allowed and not _is_data(module, name):
            raise CheckpointError(
                f"the file asks for {shown_name}, which no weights and nothing beside them need; nothing was executed"
            )
        rebuild = self.allowed[key] if key in self.allowed else functools.partial(_leave, shown_name)
        self.stack.append(Global(shown_name, rebuild))

    def call(self, arguments: Any = None) -> None:
        """REDUCE and NEWOBJ: our function in place of the file's. An object that is left may be called as well."""
        arguments = self.top(tuple)
        self.stack.pop()
        function = self.top(Global, Left)
        self.stack[-1] = _checked(function, arguments) if isinstance(function, Global) else Left(function.name)

    def build(self, _: object) -> None:
        """BUILD: only for what says here how it takes a state in; never an attribute set by a file's name."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not hasattr(type(target), "build"):
            raise CheckpointError(f"the pickle gives a state to {type(target).__name__}, which has none")
        target.build(state)

    def set_items(self, items: Sequence[Any]) -> None:
        """Pairs into the dictionary on top."""
        target = self.top(Dictionary, Left)
        if len(items) % 2:
            raise CheckpointError("broken pickle: a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is str or (type(key) is int and abs(key) < 2**48):
                target[key] = value
            else:
                target.odd = shown(key)

    def add_items(self, items: Sequence[Any]) -> None:
        """Texts into the set on top; other entries are left out."""
        self.top(set).update(item for item in items if type(item) is str)

    def persistent_id(self, _: object) -> None:
        """A storage that lies elsewhere in the file."""
        if self.persistent is None:
            raise CheckpointError("the pickle has a persistent id, which this format does not have")
        self.stack[-1] = self.persistent(self.stack[-1])

    def mark(self, _: object) -> None:
        """Begin a group."""
        self.marks.append(self.stack)
        self.stack = []

    def put(self, index: int) -> None:
        """Remember the value on top."""
        self.memo[index] = self.stack[-1]


def _checked(function, arguments):
    if function.rebuild is None:
        raise CheckpointError(
            f"the file asks for {function.name} to be called, which is a class that checkpoints only name; nothing was "
            "executed"
        )
    try:
        return function.rebuild(*arguments)
    except TypeError:
        raise CheckpointError(f"{function.name} is called with arguments that it does not take") from None


def _push(machine, value):
    machine.stack.append(value)


def _tuple(count):
    def operation(machine, _):
        items = machine.stack[-count:]
        if len(items) < count:
            raise IndexError
        machine.stack[-count:] = [tuple(items)]

    return operation


def _stack_global(machine, _):
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.find(module, name)


def _set_item(machine, _):
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items([key, value])


def _append(machine, _):
    value = machine.stack.pop()
    _extend(machine, [value])


def _extend(machine, items):
    if type(target := machine.top(list, Left)) is list:
        target.extend(items)


def _new_with_names(machine, _):
    machine.stack.pop()
    machine.call()


_BY_CODE = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_BYTES = ("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8")
_LENGTHS = dict(zip((*_BYTES, "LONG4"), (1, 4, 8, 8, 4), strict=True))  # how many bytes say how many follow

OPERATIONS = {
    **dict.fromkeys((*_INTEGERS, *_TEXTS, *_BYTES, "BINFLOAT"), _push),
    "LONG4": lambda machine, _: machine.stack.append(Left("an integer")),
    "FRAME": lambda machine, argument: None,
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, index: machine.stack.append(machine.memo[index])),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), Interpreter.put),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), Interpreter.call),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append(Dictionary()),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "FROZENSET": lambda machine, _: _push(machine, Left(f"a frozenset of {len(machine.pop_mark())}")),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: _push(machine, tuple(machine.pop_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "MARK": Interpreter.mark,
    "APPEND": _append,
    "APPENDS": lambda machine, _: _extend(machine, machine.pop_mark()),
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.pop_mark()),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GLOBAL": lambda machine, names: machine.find(*names.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    "NEWOBJ_EX": _new_with_names,
    "BUILD": Interpreter.build,
    "BINPERSID": Interpreter.persistent_id,
}
