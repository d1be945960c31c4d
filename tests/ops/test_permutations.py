"""Permutation sets against the greedy algorithm as it is told, and the numbers of both readings of "maximal Hamming distance"."""

import itertools
import math

import numpy as np
import pytest
from named_errors import raises_naming
from scipy.spatial.distance import cdist

from jigclu_jax.ops.permutations import CRITERIA, permutation_set


def literal(count: int, items: int, criterion: str, first: int) -> list[list[int]]:
    """Noroozi and Favaro's algorithm 1 as VISSL's script does it: all distances from all chosen ones, each time anew."""
    left = [list(permutation) for permutation in itertools.permutations(range(items))]
    chosen: list[list[int]] = []
    best = first
    for _ in range(count):
        chosen.append(left.pop(best))
        if left:
            # counts of places: cdist's fractions add up to ties that rounding breaks
            distance = np.rint(cdist(chosen, left, metric="hamming") * items).astype(int)
            best = int((distance.sum(axis=0) if criterion == "max_avg" else distance.min(axis=0)).argmax())
    return chosen


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(("count", "items"), [(24, 4), (60, 5)])
def test_the_set_is_that_of_the_literal_algorithm(count: int, items: int, criterion: str) -> None:
    for seed in range(3):
        found = permutation_set(count, items, criterion, seed)
        first = int(np.random.default_rng(seed).integers(math.factorial(items)))
        assert found.tolist() == literal(count, items, criterion, first)


@pytest.mark.parametrize(("criterion", "mean", "least", "close"), [("max_avg", 8.008, 2, 9738), ("max_min", 7.909, 5, 0)])
def test_a_thousand_permutations_of_nine_tiles(criterion: str, mean: float, least: int, close: int) -> None:
    """`max_avg` reaches the bound of the mean and has pairs that differ in two or three places; `max_min` has none."""
    found = permutation_set(1000, 9, criterion, 0)
    assert found.dtype == np.int32 and (np.sort(found, axis=1) == np.arange(9)).all()
    assert len(np.unique(found, axis=0)) == 1000
    distance = np.rint(cdist(found, found, metric="hamming")[np.triu_indices(1000, 1)] * 9)
    assert distance.mean() == pytest.approx(mean, abs=5e-4) and distance.min() == least
    assert (distance <= 3).sum() == close
    if criterion == "max_avg":
        assert {*np.bincount((found * 9 + np.arange(9)).reshape(-1)).tolist()} == {111, 112}, "every tile as often in every place"


def test_a_set_is_made_once_and_cannot_be_changed() -> None:
    found = permutation_set(20, 4, "max_min", 5)
    assert permutation_set(20, 4, "max_min", 5) is found and not found.flags.writeable
    assert (permutation_set(20, 4, "max_min", 6) != found).any()


def test_more_permutations_than_there_are_is_refused() -> None:
    assert len(permutation_set(24, 4, "max_avg", 0)) == 24
    with raises_naming("config.method.permutations"):
        permutation_set(25, 4, "max_avg", 0)
