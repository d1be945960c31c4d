"""What a rate of 0 freezes: weights, statistics and averages to the bit, and BatchNorm runs with the statistics it has."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_backbone import crop_batch, tiny_batch, tiny_facts, tiny_method

from jigclu_jax.config import pretrain_config
from jigclu_jax.train.freezing import freeze_statistics, join, split, thaw_statistics
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import TrainState, init_state
from jigclu_jax.train.step import Update, train_step

ALL, STAGE, STEM = ("backbone/*",), ("backbone/layer1/*",), ("backbone/conv1/*", "backbone/bn1/*")
LAYER = ("backbone/layer1/block0/bn1/*",)


def parts(name: str, patterns: tuple[str, ...], accumulate: int) -> tuple[Any, Update]:
    """The method and the update of a run whose `patterns` are frozen, with moving averages."""
    config = pretrain_config(name)
    config.model.remat = accumulate > 1
    config.optimizer.multipliers = tuple((pattern, 0.0) for pattern in patterns)
    optimizer = create_optimizer(config.optimizer)
    return tiny_method(config, blocks=1), Update(optimizer, create_schedule(config.optimizer, 10, 1), 10, 0.9, accumulate)


def batch(size: int, seed: int = 0) -> dict[str, Any]:
    """Montages that are labelled crops as well."""
    found = tiny_batch(size, seed)
    crops = crop_batch(found["montage"]["image"], np.arange(size) % 5)
    return jax.tree.map(jnp.asarray, found | {name: crops[name] for name in ("crop", "label")})


def start(method: Any, update: Update) -> TrainState:
    """A state whose statistics and averages are no round numbers."""
    state = init_state(method, tiny_facts(pretrain_config()), update.optimizer, jax.random.key(0), ema=True)
    rng = np.random.default_rng(1)

    def noise(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.uniform(0.1, 1, leaf.shape), leaf.dtype), tree)

    return dataclasses.replace(state, stats=noise(state.stats), ema=noise(state.ema))


def paths(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


@pytest.mark.parametrize(
    ("name", "patterns", "accumulate"),
    [
        ("supervised", LAYER, 1),
        ("jigclu", ALL, 3),
        pytest.param("jigclu", STEM, 3, marks=pytest.mark.slow),
        pytest.param("supervised", STAGE, 3, marks=pytest.mark.slow),
    ],
)
def test_what_is_frozen_keeps_its_bits_and_all_else_moves(name: str, patterns: tuple[str, ...], accumulate: int) -> None:
    method, update = parts(name, patterns, accumulate)
    before = state = start(method, update)
    step = jax.jit(lambda state, batch: train_step(method, update, state, batch)[0])
    for seed in range(3):
        state = step(state, batch(6, seed))
    for group in ("params", "stats", "ema"):
        old, new = (paths(getattr(one, group)) for one in (before, state))
        assert old.keys() == new.keys()
        for path in old:
            frozen = any(path.removeprefix("params/").removeprefix("stats/").startswith(pattern[:-1]) for pattern in patterns)
            assert np.array_equal(old[path], new[path]) is frozen, f"{group}/{path}"
    moving = split(state.params, update.optimizer.frozen)[0]
    assert len(jax.tree.leaves(state.opt)) == len(jax.tree.leaves(moving)) > 0, "momentum of what moves alone"


def test_a_frozen_backbone_runs_in_eval_mode_and_has_no_backward_pass() -> None:
    """Its features are those of `predict`, whatever else is in the batch, and its convolutions are those of one forward pass."""
    method, update = parts("supervised", ALL, 1)
    state = start(method, update)
    given = batch(6)
    frozen = freeze_statistics(state.stats, update.optimizer.frozen)
    outputs, stats, _ = method.forward(state.params, frozen, {}, given)
    np.testing.assert_allclose(outputs["logits"], method.predict(state.params, state.stats, {}, given["crop"]["image"][:, 0]), rtol=1e-6)
    assert jax.tree.structure(stats) == jax.tree.structure(frozen)
    probed = parts("linear", ALL, 1)[0].forward(state.params, frozen, {"scale": jnp.float32(1)}, given)[0]
    np.testing.assert_array_equal(probed["logits"], outputs["logits"])
    for update_of, passes in ((update, 1), (parts("supervised", (), 1)[1], 3)):
        other = dataclasses.replace(state, opt=update_of.optimizer.init(state.params))
        lowered = jax.jit(lambda state, update=update_of: train_step(method, update, state, given)).lower(other)
        # the gradient of the first one is by its kernel alone
        assert lowered.as_text().count("stablehlo.convolution(") == 3 * passes - (passes == 3)


def test_of_patterns_that_match_statistics_the_last_counts() -> None:
    """Biases alone train: the backbone's weights and statistics stand still."""
    config = pretrain_config().optimizer
    config.multipliers = (("backbone/*", 0.0), ("*/bias", 1.0))
    frozen = create_optimizer(config).frozen
    tree = {"backbone": {"bn1": {"mean": 1, "var": 2, "scale": 3, "bias": 4}, "empty": {}}, "head": {"kernel": 5}}
    moving, still = split(tree, frozen)
    assert moving == {"backbone": {"bn1": {"bias": 4}, "empty": {}}, "head": {"kernel": 5}}
    assert still == {"backbone": {"bn1": {"mean": 1, "var": 2, "scale": 3}, "empty": {}}, "head": {}}
    assert join(moving, still) == tree
    later = jax.tree.map(lambda leaf: leaf + 1, freeze_statistics(tree, frozen))
    assert thaw_statistics(later, tree, frozen) == join(jax.tree.map(lambda leaf: leaf + 1, moving), still)
