"""How many images go through a network at once, and what happens when memory runs out."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from dode.models.conditions import Conditions

log = logging.getLogger(__name__)

Made = TypeVar("Made", Tensor, Conditions)

OUT_OF_MEMORY = ("CUDA out of memory", "PYTORCH_CUDA_ALLOC_CONF", "DefaultCPUAllocator")  # in messages of allocators


class Batches:
    """Applies a function to a set of images part by part.

    When memory runs out the parts are halved for all further calls, and work continues with the same images: what
    the parts are changes a result by float rounding at most.

    Attributes:
        beside: lists that the function adds to, part by part, beside what it returns. Of parts that are gone through
            again, what was added is taken out.

    Args:
        size: images at once; None for all.
    """

    def __init__(self, size: int | None = None):
        self.size = size
        self.beside: list[list] = []

    def map(self, function: Callable[..., Made], x: Tensor, *others: Tensor | Conditions | None) -> Made:
        """``function(x, *others)`` as one tensor, or as conditions of all images.

        ``others`` are of the length of x, or None, which is handed on.
        """
        lengths = [len(each) for each in self.beside]
        while True:
            size = min(self.size or len(x), len(x))
            try:
                return self._parts(function, size, x, others)
            except RuntimeError as error:
                if size <= 1 or not out_of_memory(error):
                    raise
            # Outside of the handler, where the error no longer holds the tensors of its frames.
            self.size = size // 2
            for each, length in zip(self.beside, lengths, strict=True):
                del each[length:]
            log.warning("out of memory with %d images at once; continuing with %d", size, self.size)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    @staticmethod
    def _parts(function, size, x, others):
        if len(x) <= size:
            return function(x, *others)
        splits = (part.split(size) if part is not None else [None] * -(-len(x) // size) for part in others)
        found = [function(*parts) for parts in zip(x.split(size), *splits, strict=True)]
        return Conditions.joined(found) if isinstance(found[0], Conditions) else torch.cat(found)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that a device has no memory left.

    The CPU's allocator has no class for it, and what goes wrong within TorchScript is a RuntimeError like any other.
    """
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in OUT_OF_MEMORY)
