"""Shares of images take few values: seeds that differ by equal amounts are not taken for certain."""

import numpy as np
import pytest
from scipy.stats import binomtest

from dode.metrics import scores
from dode.report import verdicts

IMAGES = 40


def share(*counts, images=IMAGES):
    """The entry of a score that so many images of each seed have."""
    blocks = [np.repeat([1.0, 0.0], [count, images - count]) for count in counts]
    return scores._of_images(blocks, images=images, k=3)


def test_one_image_in_each_of_two_seeds_tells_nothing():
    one, other = share(36, 37), share(37, 38)
    assert not verdicts._of_seeds(one, other, 0.95) > 1e-9  # their differences have no spread
    assert verdicts.tied(one, other)
    assert verdicts.verdict(one, other, lower=False) == "tied"
    assert not verdicts.unsettled(one, other)  # three images of three seeds tell nothing either
    assert verdicts.unsettled(share(33, 36), share(36, 38))  # eight do


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("each", range(1, 9))
def test_equal_differences_are_told_apart_as_by_a_sign_test(seeds, each):
    """Of the images that count in one alone, which are no fewer than the difference."""
    one, other = share(*range(20, 20 + seeds)), share(*range(20 + each, 20 + each + seeds))
    by_sign = binomtest(each * seeds, each * seeds).pvalue > 0.05
    assert verdicts.tied(one, other) == (True if seeds == 1 else by_sign)  # of one seed the pairs are not known


def test_other_numbers_of_seeds_without_spread_are_no_more_certain():
    assert verdicts.tied(share(37, 37), share(38, 38, 38))
    assert not verdicts.tied(share(20, 20), share(38, 38, 38))


def test_scores_that_are_no_shares_are_judged_by_their_seeds_alone():
    for values in ((0.9001, 0.9252), (12.0, 13.0)):
        one, other = ({"value": 0, "error": 0.1, "blocks": [v + d for v in values], "images": 40} for d in (0, 0.025))
        one["value"], other["value"] = (sum(entry["blocks"]) / 2 for entry in (one, other))
        assert not verdicts.tied(one, other)


def test_enough_images_are_told_apart():
    assert not verdicts.tied(share(900, 910, 905, images=1000), share(930, 941, 936, images=1000))
