"""How the images of a cell are shared out among jobs and batches. Which image has which noise never depends on it."""

import dataclasses

RECORDED = 4  # images of seed block 0 whose states are kept


@dataclasses.dataclass(frozen=True)
class Plan:
    """``seeds`` blocks of ``images`` each, numbered through; of each the first ``trajectory_images`` are kept whole."""

    images: int
    seeds: int
    trajectory_images: int

    def batches(self, shard: int, shards: int, batch_size: int) -> list[tuple[int, range]]:
        """``(block, indices within the block)`` of each batch of one shard, in order.

        Shard s of n holds the images from ``s total / n`` to ``(s + 1) total / n``; a batch lies within one block, its
        bounds at multiples of ``batch_size`` within the block where the shard's bounds allow.

        >>> Plan(images=5, seeds=2, trajectory_images=1).batches(shard=0, shards=1, batch_size=3)
        [(0, range(0, 3)), (0, range(3, 5)), (1, range(0, 3)), (1, range(3, 5))]
        """
        total = self.images * self.seeds
        start, stop = shard * total // shards, (shard + 1) * total // shards
        found = []
        while start < stop:
            block, first = divmod(start, self.images)
            last = min((first // batch_size + 1) * batch_size, self.images, first + stop - start)
            found.append((block, range(first, last)))
            start += last - first
        return found

    def kept(self, indices: range) -> int:
        """How many of a batch's images (its first ones) are kept whole."""
        return max(0, min(len(indices), self.trajectory_images - indices.start))

    @staticmethod
    def recorded(block: int, indices: range) -> int:
        """How many of a batch's images (its first ones) have the states on their way kept."""
        return max(0, min(len(indices), RECORDED - indices.start)) if block == 0 else 0
