"""Alignment, uniformity and effective rank against their formulas written out, and on features whose spread is known."""

import math

import numpy as np
import pytest

from jigclu_jax.evals.spread import alignment, effective_rank, positive_pairs, uniformity


def noise(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_effective_rank_of_known_spectra() -> None:
    turn = np.linalg.qr(noise(40, 8))[0]
    for values in (np.ones(8), np.array([4.0, 2, 1, 1, 0, 0, 0, 0]), np.array([1.0] + [0] * 7)):
        share = values / values.sum()
        entropy = -sum(p * math.log(p) for p in share if p > 0)
        x = (turn * values) @ np.linalg.qr(noise(8, 8, 1))[0]
        assert effective_rank(x.astype(np.float32)) == pytest.approx(math.exp(entropy), rel=1e-4)


def test_effective_rank_shows_a_collapse() -> None:
    assert effective_rank(noise(500, 32)) > 28
    assert effective_rank(np.tile(noise(1, 32), (500, 1))) == pytest.approx(1, abs=1e-3)
    assert effective_rank(np.zeros((10, 4), np.float32)) == 1.0


def test_alignment_and_uniformity_are_their_formulas() -> None:
    x, y = noise(30, 5), noise(30, 5, 1)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y)]
    assert alignment(x, y) == pytest.approx(np.mean([np.sum((a - b) ** 2) for a, b in zip(*unit, strict=True)]), rel=1e-5)
    pairs = [math.exp(-2 * float(np.sum((a - b) ** 2))) for i, a in enumerate(unit[0]) for j, b in enumerate(unit[0]) if i != j]
    assert uniformity(x) == pytest.approx(math.log(np.mean(pairs)), rel=1e-5)


def test_many_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(400, 5)
    whole = uniformity(x)
    monkeypatch.setattr("jigclu_jax.evals.spread._PAIRS", 20_000)
    assert uniformity(x) != whole and uniformity(x) == pytest.approx(whole, abs=0.05)


def test_the_ends_of_both_scales() -> None:
    x = noise(50, 4)
    assert alignment(x, 3 * x) == pytest.approx(0, abs=1e-6) and alignment(x, -x) == pytest.approx(4, rel=1e-5)
    assert uniformity(np.tile(x[:1], (50, 1))) == pytest.approx(0, abs=1e-5)
    assert uniformity(noise(500, 128)) == pytest.approx(-4, abs=0.2)


def test_positive_pairs_are_all_pairs_of_a_group_once() -> None:
    groups = np.array([3, 1, 3, 2, 1, 3])
    first, second = positive_pairs(groups)
    found = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert found == {frozenset(pair) for pair in ((1, 4), (0, 2), (0, 5), (2, 5))} and len(first) == 4
