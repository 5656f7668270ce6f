"""The levels of EDM's networks, under the names of the published parameters; EDM2's have the same."""

from collections.abc import Callable, Sequence

from torch import nn


def add_encoder(
    enc: nn.ModuleDict,
    conv: nn.Module,
    stem: int,
    widths: Sequence[int],
    depth: int,
    *,
    tags: Sequence[str],
    attends: Sequence[bool],
    block: Callable[..., nn.Module],
) -> list[int]:
    """The way down: a convolution, then ``depth`` blocks per level, with a halving before all levels but the first.

    Args:
        enc: gets the modules ``{tag}_conv``, ``{tag}_down`` and ``{tag}_block{i}``.
        conv: the first convolution, which gives ``stem`` channels.
        widths, tags, attends: of each level, its channels, its name, and whether its blocks attend.
        block: ``block(inputs, outputs, attention=..., resample=...)``.

    Returns:
        The channels of all that is handed over to the decoder, in order.
    """
    enc[f"{tags[0]}_conv"] = conv
    skips, width = [stem], stem
    for level, (tag, target) in enumerate(zip(tags, widths, strict=True)):
        if level:
            enc[f"{tag}_down"] = block(width, width, resample="down")
            skips.append(width)
        for index in range(depth):
            enc[f"{tag}_block{index}"] = block(width, target, attention=attends[level])
            width = target
            skips.append(width)
    return skips


def add_decoder(
    dec: nn.ModuleDict,
    widths: Sequence[int],
    depth: int,
    skips: list[int],
    *,
    tags: Sequence[str],
    attends: Sequence[bool],
    block: Callable[..., nn.Module],
    last_only: bool = False,
) -> None:
    """The way up: two blocks at the lowest level, then ``depth + 1`` per level, which take one of ``skips`` each.

    Arguments as of :func:`add_encoder`; with ``last_only`` the last block of a level attends alone.
    """
    width = widths[-1]
    for level, tag in reversed(list(enumerate(tags))):
        if level == len(widths) - 1:
            dec[f"{tag}_in0"] = block(width, width, attention=True)
            dec[f"{tag}_in1"] = block(width, width)
        else:
            dec[f"{tag}_up"] = block(width, width, resample="up")
        for index in range(depth + 1):
            attention = attends[level] and (index == depth or not last_only)
            dec[f"{tag}_block{index}"] = block(width + skips.pop(), widths[level], attention=attention)
            width = widths[level]
