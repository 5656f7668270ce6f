"""The error of this package, and how it shows what a file says."""


class CheckpointError(ValueError):
    """A checkpoint that is broken, not of the format the card says, or that asks for more than reading."""


def shown(value: object) -> str:
    """A short harmless form of what a file says, for messages."""
    if isinstance(value, int) and abs(value) >= 2**64:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, str):
        return ascii(value[:100])[:100]
    if isinstance(value, int | float | None):
        return repr(value)
    return kind_of(value)


def kind_of(value: object) -> str:
    """Of what class a value is in the file, for messages."""
    name = getattr(value, "name", None)
    return ascii(name[:100])[1:-1] if isinstance(name, str) else type(value).__name__
