"""What images are conditioned on: classes, or what a pipeline's text encoders make of prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

NO_CLASS = -1


@dataclasses.dataclass(frozen=True)
class Conditions:
    """Tensors of one entry per image, in the order of the images; a network takes them as keyword arguments.

    Attributes:
        values: by name, (B, ...) each, such as ``labels`` (B,) for classes.
        without: what stands in their place for an image without any, as classifier-free guidance asks; (B, ...) each,
            of the same names, or None for a network that knows no such.

    Raises:
        ValueError: for entries of another number of images, or of other names.
    """

    values: Mapping[str, Tensor]
    without: Mapping[str, Tensor] | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("conditions need at least one tensor")
        if self.without is not None and set(self.without) != set(self.values):
            names, others = ", ".join(sorted(self.values)), ", ".join(sorted(self.without))
            raise ValueError(f"conditions: {names} are given, but without them {others}")
        counts = {name: len(value) for each in (self.values, self.without or {}) for name, value in each.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(
                "conditions must be of as many images each, but are of "
                + ", ".join(f"{count} ({name})" for name, count in counts.items())
            )

    @classmethod
    def of_classes(cls, labels: Tensor) -> Conditions:
        """Classes (B,) int64, -1 for none."""
        return cls({"labels": labels}, {"labels": torch.full_like(labels, NO_CLASS)})

    @classmethod
    def joined(cls, parts: Sequence[Conditions]) -> Conditions:
        """Those of the images of several parts, one part after the other, of the same names."""

        def each(mappings):
            return {name: torch.cat([own[name] for own in mappings]) for name in mappings[0]}

        without = [part.without for part in parts]
        return cls(each([part.values for part in parts]), None if without[0] is None else each(without))

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def part(self, start: int, stop: int) -> Conditions:
        """Those of images ``start`` to ``stop``."""
        return self._each(lambda value: value[start:stop])

    def of_rows(self, rows: Tensor) -> Conditions:
        """Those of the images with these indices, (B,) int64."""
        return self._each(lambda value: value[rows.to(value.device)])

    def split(self, size: int) -> list[Conditions]:
        """Parts of ``size`` images, the last of fewer."""
        return [self.part(start, start + size) for start in range(0, len(self), size)]

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditions:
        """On a device, and in a type where they are floating-point numbers."""
        return self._each(lambda value: value.to(device, dtype if value.is_floating_point() else value.dtype))

    def both(self) -> Conditions:
        """Of twice the images: first as they are, then without.

        Raises:
            ValueError: where the network knows no image without conditions.
        """
        if self.without is None:
            raise ValueError("classifier-free guidance needs conditions that stand for none, which this model has not")
        return Conditions({name: torch.cat([value, self.without[name]]) for name, value in self.values.items()})

    def _each(self, function: Callable[[Tensor], Tensor]) -> Conditions:
        without = self.without
        return Conditions(
            {name: function(value) for name, value in self.values.items()},
            None if without is None else {name: function(value) for name, value in without.items()},
        )
