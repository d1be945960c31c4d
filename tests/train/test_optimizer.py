"""The optimizers against transcriptions of their rules in numpy, and what path patterns do to them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from jigclu_jax.config import optimizer_config
from jigclu_jax.errors import UserError
from jigclu_jax.train.freezing import split
from jigclu_jax.train.optimizer import create_optimizer

Arrays = dict[str, np.ndarray]
# (arrays changed in place, gradient, rate, memory of the rule, number of the step from 1)
Rule = Callable[[Arrays, Arrays, float, dict[str, Any], int], None]
SHAPES = {"backbone/conv/kernel": (3, 4), "backbone/bn/scale": (4,), "head/kernel": (4, 2), "head/bias": (2,)}


def nested(flat: Arrays) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, leaf = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[leaf] = jnp.asarray(value, jnp.float32)
    return tree


def settings(**fields: Any) -> ConfigDict:
    config = optimizer_config()
    config.update(fields)
    return config


def compare(config: ConfigDict, rule: Rule, factors: dict[str, float] | None = None, steps: int = 5) -> None:
    """Five steps of a changing rate from both."""
    rng = np.random.default_rng(0)
    theirs = {path: rng.normal(size=shape) for path, shape in SHAPES.items()}
    start = {path: value.copy() for path, value in theirs.items()}
    ours, optimizer, memory = nested(theirs), create_optimizer(config), {}
    state = optimizer.init(ours)
    for step in range(steps):
        rate = 0.1 / (step + 1)
        gradient = {path: rng.normal(size=shape) for path, shape in SHAPES.items()}
        change, state = optimizer.update(nested(gradient), state, ours, rate=rate)
        ours = jax.tree.map(jnp.subtract, ours, change)
        before = {path: value.copy() for path, value in theirs.items()}
        rule(theirs, gradient, rate, memory, step + 1)
        for path, factor in (factors or {}).items():  # what a smaller rate leaves of the step
            theirs[path] = before[path] + factor * (theirs[path] - before[path])
    for path, value in theirs.items():
        found = ours
        for part in path.split("/"):
            found = found[part]
        np.testing.assert_allclose(found, value, rtol=2e-5, atol=2e-6, err_msg=path)
        assert (np.abs(value - start[path]).max() > 1e-4) or (factors or {}).get(path) == 0, "the rule moved it"


def sgd(momentum: float, decay: float) -> Rule:
    """`torch.optim.SGD`: the rate is applied after the momentum."""

    def rule(p: Arrays, g: Arrays, rate: float, memory: dict[str, Any], step: int) -> None:
        for path in p:
            d = g[path] + decay * p[path]
            memory[path] = momentum * memory[path] + d if path in memory else d
            p[path] = p[path] - rate * memory[path]

    return rule


def lars(momentum: float, decay: float, trust: float, plain: set[str]) -> Rule:
    def rule(p: Arrays, g: Arrays, rate: float, memory: dict[str, Any], step: int) -> None:
        for path in p:
            d = g[path]
            if path not in plain:
                d = d + decay * p[path]
                d = d * trust * np.linalg.norm(p[path]) / np.linalg.norm(d)
            memory[path] = momentum * memory.get(path, 0.0) + rate * d
            p[path] = p[path] - memory[path]

    return rule


def adamw(beta1: float, beta2: float, epsilon: float, decay: float, plain: set[str]) -> Rule:
    """Algorithm 2 of Loshchilov and Hutter, as `torch.optim.AdamW` writes it."""

    def rule(p: Arrays, g: Arrays, rate: float, memory: dict[str, Any], step: int) -> None:
        for path in p:
            m, v = memory.get(path, (0.0, 0.0))
            m, v = beta1 * m + (1 - beta1) * g[path], beta2 * v + (1 - beta2) * g[path] ** 2
            memory[path] = m, v
            if path not in plain:
                p[path] = p[path] * (1 - rate * decay)
            p[path] = p[path] - rate * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + epsilon)

    return rule


ONE_AXIS = {"backbone/bn/scale", "head/bias"}


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 1e-2), (0.9, 0.0), (0.0, 1e-2), (0.0, 0.0)])
def test_sgd_is_pytorchs(momentum: float, decay: float) -> None:
    compare(settings(momentum=momentum, weight_decay=decay), sgd(momentum, decay))


@pytest.mark.parametrize(("exclude", "plain"), [("auto", ONE_AXIS), ("always", ONE_AXIS), ("never", set())])
def test_lars(exclude: str, plain: set[str]) -> None:
    config = settings(name="lars", weight_decay=0.3, trust_coefficient=0.02, exclude_1d=exclude)
    compare(config, lars(0.9, 0.3, 0.02, plain))


def test_lars_in_a_warm_up_is_optaxs() -> None:
    optimizer = create_optimizer(settings(name="lars", weight_decay=0.3, trust_coefficient=0.02, exclude_1d="never"))
    theirs = optax.lars(lambda step: 0.1 * (step + 1), 0.3, trust_coefficient=0.02, momentum=0.9)
    rng = np.random.default_rng(0)
    ours = other = nested({path: rng.normal(size=shape) for path, shape in SHAPES.items()})
    state, other_state = optimizer.init(ours), theirs.init(other)
    for step in range(5):
        gradient = nested({path: rng.normal(size=shape) for path, shape in SHAPES.items()})
        change, state = optimizer.update(gradient, state, ours, rate=0.1 * (step + 1))
        updates, other_state = theirs.update(gradient, other_state, other)
        ours, other = jax.tree.map(jnp.subtract, ours, change), optax.apply_updates(other, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), ours, other)


@pytest.mark.parametrize(("exclude", "plain"), [("auto", ONE_AXIS), ("never", set())])
def test_adamw(exclude: str, plain: set[str]) -> None:
    config = settings(name="adamw", weight_decay=0.3, betas=(0.8, 0.95), epsilon=1e-3, exclude_1d=exclude)
    compare(config, adamw(0.8, 0.95, 1e-3, 0.3, plain))


def test_decay_by_pattern() -> None:
    config = settings(name="adamw", weight_decay=0.3, exclude_1d="never", no_decay=("head/*",))
    compare(config, adamw(0.9, 0.999, 1e-8, 0.3, {"head/kernel", "head/bias"}))


def test_of_several_multipliers_that_match_the_last_counts() -> None:
    config = settings(weight_decay=0.1, multipliers=(("backbone/*", 0.25), ("*/scale", 3.0)))
    compare(config, sgd(0.9, 0.1), {"backbone/conv/kernel": 0.25, "backbone/bn/scale": 3.0})


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_a_constant_rate_does_not_follow_the_schedule(name: str) -> None:
    params = nested({path: np.full(shape, 0.5) for path, shape in SHAPES.items()})

    def change(rate: float, *constant: str) -> Any:
        optimizer = create_optimizer(settings(name=name, learning_rate=0.4, weight_decay=0.1, constant_rate=constant))
        return optimizer.update(jax.tree.map(lambda p: 3 * p, params), optimizer.init(params), params, rate=jnp.float32(rate))[0]

    found, scheduled, full = change(0.1, "head/*"), change(0.1), change(0.4)
    jax.tree.map(np.testing.assert_array_equal, found, {"backbone": scheduled["backbone"], "head": full["head"]})
    assert float(full["head"]["bias"][0]) == pytest.approx(4 * float(scheduled["head"]["bias"][0]))


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_a_frozen_parameter_has_no_change_and_no_state(name: str) -> None:
    config = settings(name=name, weight_decay=0.1, multipliers=(("backbone/*", 0), ("head/kernel", 2.0)))
    optimizer, params = create_optimizer(config), nested({path: np.ones(shape) for path, shape in SHAPES.items()})
    state, moving = optimizer.init(params), split(params, optimizer.frozen)[0]
    sizes = [leaf.shape for leaf in jax.tree.leaves(state) if leaf.ndim]
    assert sizes and set(sizes) == {SHAPES["head/kernel"], SHAPES["head/bias"]}
    change, _ = optimizer.update(jax.tree.map(lambda p: 3 * p, moving), state, moving, rate=1.0)
    assert not jax.tree.leaves(change["backbone"]) and all(bool((d != 0).all()) for d in jax.tree.leaves(change["head"]))
    assert [optimizer.frozen(path) for path in SHAPES] == [True, True, False, False]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"multipliers": (("bakbone/*", 0.1),)},
            r"optimizer\.multipliers: 'bakbone/\*' matches no parameter's path: did you mean 'backbone/\*'",
        ),
        ({"no_decay": ("head/kernal",)}, r"no_decay: 'head/kernal' matches no parameter's path: did you mean 'head/kernel'"),
        ({"constant_rate": ("predictor/*",)}, r"constant_rate: 'predictor/\*' matches no parameter's path"),
        ({"no_decay": ("qqq",)}, r"'qqq' matches no parameter's path: there are backbone, head$"),
    ],
)
def test_mistakes_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_optimizer(settings(**fields)).init(nested({path: np.ones(shape) for path, shape in SHAPES.items()}))
