"""A pickle read as data: an interpreter of the few opcodes that checkpoints have, which imports and calls nothing.

Python's own unpickler finds and calls whatever a file names. This one knows a file's globals only as names: each is
looked up in a short table that the caller gives, whose entries are functions of this package that check their arguments
and return plain values. Everything else is refused, with one error that names it. Memory and time are bounded by the
file: no length is believed before the bytes are there, dictionaries have strings or integers as keys (nothing is hashed
that a file could nest), and the number of opcodes is limited.
"""

import pickletools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

# The largest published file (EDM's ImageNet-64) needs some 10^5.
MAX_OPCODES = 1_000_000


class CheckpointError(ValueError):
    """A checkpoint that is broken, not of the format the card says, or that asks for more than reading."""


class Global(NamedTuple):
    """A global that a file names, and what is done here in its place."""

    name: str
    rebuild: Callable


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


class Dictionary(dict):
    """An ordered dictionary or one with attributes; further state that the file has of it is left out."""

    def build(self, state: object) -> None:
        """Metadata of no use here."""


def shown(value: object) -> str:
    """A short harmless form of what a file says, for messages."""
    if not isinstance(value, str | int | float | type(None)):
        return type(value).__name__
    return ascii(value if not isinstance(value, str) else value[:100])[:100]


def dictionary() -> Dictionary:
    """In place of ``collections.OrderedDict`` and the like, which are pickled empty and then filled."""
    return Dictionary()


class Interpreter:
    """One pickle, read from a file object whose ``read`` returns no more than is there.

    Args:
        file: with ``read``, ``readline`` and ``tell``: a BytesIO or a memory map.
        allowed: ``"module name" -> function``, all globals that may occur.
        persistent: function of a persistent id; None where none may occur.
    """

    def __init__(self, file: Any, allowed: Mapping[str, Callable], persistent: Callable[[Any], Any] | None = None):
        self.file, self.allowed, self.persistent = file, allowed, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value; the file stands behind its last opcode."""
        operations = pickletools.genops(self.file)
        for count in range(MAX_OPCODES):
            try:
                opcode, argument, position = next(operations)
            except Exception as error:
                raise CheckpointError(f"broken pickle: {str(error)[:200]}") from None
            if opcode.name == "STOP":
                if len(self.stack) != 1 or self.marks:
                    raise CheckpointError("broken pickle: it ends with something left over")
                return self.stack[0]
            operation = OPERATIONS.get(opcode.name)
            if operation is None:
                raise CheckpointError(
                    f"the pickle has the opcode {opcode.name} (byte {position}), which is not supported"
                )
            if count == 0 and opcode.name != "PROTO":
                raise CheckpointError("not a pickle of a protocol from 2 to 5")
            try:
                operation(self, argument)
            except (IndexError, KeyError, TypeError) as error:
                kind = type(error).__name__
                raise CheckpointError(f"broken pickle: {opcode.name} at byte {position} fails ({kind})") from None
        raise CheckpointError(f"the pickle has more than {MAX_OPCODES} opcodes")

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
        """A global by name, from the table only."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise CheckpointError("broken pickle: a global whose name is not text")
        rebuild = self.allowed.get(f"{module} {name}")
        if rebuild is None:
            raise CheckpointError(
                f"the file asks for {shown(module)[1:-1]}.{shown(name)[1:-1]}, which is not among the few globals that "
                "checkpoints of this format need; nothing was executed"
            )
        self.stack.append(Global(f"{module}.{name}", rebuild))

    def call(self, _: object) -> None:
        """REDUCE and NEWOBJ: our function in place of the file's."""
        arguments = self.top(tuple)
        self.stack.pop()
        function = self.top(Global)
        self.stack[-1] = _checked(function, arguments)

    def build(self, _: object) -> None:
        """BUILD: only for what says here how it takes a state in; never an attribute set by a file's name."""
        state = self.stack.pop()
        target = self.stack[-1]
        if not hasattr(type(target), "build"):
            raise CheckpointError(f"the pickle gives a state to {type(target).__name__}, which has none")
        target.build(state)

    def set_items(self, items: Sequence[Any]) -> None:
        """Pairs into the dictionary on top."""
        target = self.top(dict, Dictionary)
        if len(items) % 2:
            raise CheckpointError("broken pickle: a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and not (type(key) is int and 0 <= key < 2**48):
                raise CheckpointError(f"the pickle has a dictionary with the key {shown(key)}, neither text nor index")
            target[key] = value

    def add_items(self, items: Sequence[Any]) -> None:
        """Texts into the set on top."""
        target = self.top(set)
        if not all(type(item) is str for item in items):
            raise CheckpointError("the pickle has a set of something other than text")
        target.update(items)

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
    machine.top(list).append(value)


def _appends(machine, _):
    items = machine.pop_mark()
    machine.top(list).extend(items)


_INTEGERS = ("BININT", "BININT1", "BININT2", "LONG1")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8")

OPERATIONS = {
    **dict.fromkeys((*_INTEGERS, *_TEXTS, "BINFLOAT"), _push),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, argument: None),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda machine, index: machine.stack.append(machine.memo[index])),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), Interpreter.put),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), Interpreter.call),
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: _push(machine, tuple(machine.pop_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "MARK": Interpreter.mark,
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_mark()),
    "ADDITEMS": lambda machine, _: machine.add_items(machine.pop_mark()),
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GLOBAL": lambda machine, names: machine.find(*names.split(" ", 1)),
    "STACK_GLOBAL": _stack_global,
    "BUILD": Interpreter.build,
    "BINPERSID": Interpreter.persistent_id,
}
