"""Noise belongs to the image, and every image is drawn exactly once, however the work is shared out."""

import numpy as np
import pytest
import torch

from dode.images.noise import STREAMS, latents
from dode.images.shards import Plan

SHAPE = (1, 4, 4)


def draw(indices, **options):
    return latents(indices, SHAPE, **{"seed": 0, **options})


# Drawn with numpy 2.4.6. A numpy that draws otherwise changes every sample: then these fail, on purpose.
GOLDEN = [
    (0, {"seed": 0}, [0.15929546600623282, -1.7741885208017214, 1.3265118818830892]),
    (7, {"seed": 0}, [0.7628861668999339, 0.07398379386085976, 0.6929853612394586]),
    (0, {"seed": 0, "stream": "fit"}, [0.7803922565150754, -0.22492372709467987, 1.1175875059932296]),
    (7, {"seed": 2**63 - 1, "block": 2}, [-1.0838153510076773, -1.3046061300907588, 1.387749874748105]),
    (2**40, {"seed": 12345, "block": 1}, [-0.36315048932202915, -0.6178457878177266, -0.9106789204953291]),
]


@pytest.mark.parametrize(("index", "where", "values"), GOLDEN)
def test_golden_numbers(index, where, values):
    found = latents([index], (1, 1, 3), **where).flatten()
    np.testing.assert_allclose(found, values, rtol=1e-15)


def test_an_images_noise_does_not_depend_on_the_batch():
    whole = draw(range(40))
    assert whole.dtype == torch.float64
    assert torch.equal(torch.cat([draw(range(7)), draw([7]), draw(range(8, 40))]), whole)
    assert torch.equal(draw(np.array([30, 3, 30])), whole[[30, 3, 30]])
    assert draw([]).shape == (0, *SHAPE)


def test_global_random_state_is_neither_read_nor_moved():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = draw([0])
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(draw([0]), first)


def test_seeds_streams_blocks_and_images_are_different_and_uncorrelated():
    """12 rows of 64,000 numbers: no two have a correlation above five standard errors."""
    places = [
        {"seed": seed, "stream": stream, "block": block}
        for seed in (0, 1, 2**63 - 1)
        for stream in STREAMS
        for block in (0, 1)
    ]
    rows = [latents(range(4_000), SHAPE, **place).flatten() for place in places]
    correlation = np.corrcoef(torch.stack(rows))
    assert np.abs(correlation - np.eye(len(places))).max() < 5 / rows[0].numel() ** 0.5
    images = latents(range(40), (1, 100, 100), seed=0).flatten(1)
    assert np.abs(np.corrcoef(images) - np.eye(40)).max() < 5 / images.shape[1] ** 0.5


def test_a_large_draw_is_unit_normal():
    """A million numbers; each tolerance is five standard errors of its moment for a unit normal."""
    x = latents(range(62_500), SHAPE, seed=3).flatten()
    error = 5 / len(x) ** 0.5
    assert abs(x.mean()) < error
    assert abs(x.var() - 1) < 2**0.5 * error
    assert abs((x**3).mean()) < 15**0.5 * error
    assert abs((x**4).mean() - 3) < 96**0.5 * error


def test_an_unknown_stream_is_refused():
    with pytest.raises(KeyError, match="other"):
        draw([0], stream="other")


def random_plans(count=300):
    """Plans with a number of shards and a batch size, from tiny to a few hundred images."""
    integers = np.random.default_rng(0).integers
    for _ in range(count):
        images, seeds = int(integers(1, 80)), int(integers(1, 6))
        yield (
            Plan(images, seeds, int(integers(1, images + 1))),
            int(integers(1, min(images * seeds, 40) + 1)),
            int(integers(1, 100)),
        )


def test_every_image_is_made_exactly_once_and_in_order():
    for plan, shards, size in random_plans():
        made = [
            (block, index)
            for shard in range(shards)
            for block, indices in plan.batches(shard, shards, size)
            for index in indices
        ]
        assert made == [(block, index) for block in range(plan.seeds) for index in range(plan.images)]


def test_batches_stay_within_a_block_and_its_multiples_of_the_batch_size():
    for plan, shards, size in random_plans():
        for shard in range(shards):
            for _, indices in plan.batches(shard, shards, size):
                assert 0 < len(indices) <= size
                assert indices.start // size == (indices.stop - 1) // size
                assert indices.stop <= plan.images


def test_shards_are_of_equal_size_but_for_one_image():
    for plan, shards, size in random_plans():
        sizes = [sum(len(indices) for _, indices in plan.batches(shard, shards, size)) for shard in range(shards)]
        assert max(sizes) - min(sizes) <= 1


def test_the_first_images_of_each_block_are_kept_whatever_the_batches():
    for plan, shards, size in random_plans():
        kept = [
            (block, index)
            for shard in range(shards)
            for block, indices in plan.batches(shard, shards, size)
            for index in indices[: plan.kept(indices)]
        ]
        assert kept == [(block, index) for block in range(plan.seeds) for index in range(plan.trajectory_images)]
