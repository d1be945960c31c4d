"""SGD, LARS and AdamW as optax computes them, with weight decay and learning rates by parameter.

A parameter is named by its path, as "backbone/layer1/block0/conv1/kernel"; patterns are shell-style, and `*` matches `/` as well.
"""

import difflib
import fnmatch
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import optax
from ml_collections import ConfigDict

from jigclu_jax.errors import UserError
from jigclu_jax.train.freezing import IsFrozen, split


class Optimizer(NamedTuple):
    """An optax transformation from gradient to change, and which parameters stand still.

    Attributes:
      init: all parameters -> state of those that move; UserError where a pattern of the config matches no parameter.
      update: (gradient, state, params, rate=learning rate of the moment) -> (what to subtract from the parameters, state), all
        of the parameters that move (`train/freezing.py: split`).
      frozen: whether a path stands still, because its multiplier is 0: a parameter has no gradient, no decay and no state then,
        and a BatchNorm's statistics are those it runs with.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]
    frozen: IsFrozen


def create_optimizer(config: ConfigDict) -> Optimizer:
    """The optimizer that `config.optimizer` describes.

    - `sgd` is PyTorch's: g + weight_decay * p, then v = momentum * v + g. The decay is coupled (it enters the momentum) and
      reaches every parameter, BatchNorm's and biases too, as the authors' `torch.optim.SGD` does; the rate is applied last.
    - `lars` (You et al. 2017, "Large batch training of convolutional networks"; optax's `lars`): g + weight_decay * p times
      trust_coefficient * |p| / |g + weight_decay * p| times the rate, then the momentum.
    - `adamw` (Loshchilov and Hutter 2019; `torch.optim.AdamW`): m / (sqrt(v) + epsilon) with both corrected for their start,
      plus weight_decay * p, times the rate.

    Parameters with one axis (biases, BatchNorm) have no decay and no trust ratio where `exclude_1d` says so; those that match
    `no_decay` have none either. `multipliers` are pairs (pattern, factor) for the learning rate, of several that match the last
    counts; a factor of 0 freezes, BatchNorm's statistics on that path as well. What matches `constant_rate` has `learning_rate` throughout
    (times its factor), whatever the schedule says. `init` raises UserError for a pattern that matches nothing.
    """
    spared = config.exclude_1d == "always" or (config.exclude_1d == "auto" and config.name != "sgd")
    no_decay, multipliers = tuple(config.no_decay), tuple(config.multipliers)
    full_rate, constant_rate = config.learning_rate, tuple(config.constant_rate)

    def adapted(params: Any) -> Any:
        """Where decay and trust ratio act."""
        return _by_path(lambda path, leaf: not (spared and leaf.ndim <= 1) and not _matches(path, no_decay), params)

    def factors(params: Any) -> Any:
        return _by_path(lambda path, _: _factor(path, multipliers), params)

    def at_rate(change: Any, rate: Any) -> Any:
        return _by_path(lambda path, leaf: (full_rate if _matches(path, constant_rate) else rate) * leaf, change)

    def frozen(path: str) -> bool:
        return _factor(path, multipliers) == 0

    mask = adapted if spared or no_decay else None
    decay = [optax.add_decayed_weights(config.weight_decay, mask)] if config.weight_decay else []
    rate_first = config.name == "lars" and bool(config.momentum)
    trace = optax.trace(config.momentum)
    momentum = [_after_rate(trace, at_rate) if rate_first else trace] if config.momentum else []
    if config.name == "sgd":
        parts = decay + momentum
    elif config.name == "lars":
        ratio = optax.scale_by_trust_ratio(trust_coefficient=config.trust_coefficient)
        parts = [*decay, optax.masked(ratio, mask) if mask else ratio, *momentum]
    else:
        parts = [optax.scale_by_adam(*config.betas, config.epsilon), *decay]
    if any(factor not in (0, 1) for _, factor in multipliers):
        parts.append(optax.stateless(lambda direction, params: jax.tree.map(lambda d, factor: d * factor, direction, factors(params))))
    chain = optax.chain(*parts) if parts else optax.identity()

    def init(params: Any) -> Any:
        paths = jax.tree.leaves(_by_path(lambda path, _: path, params))
        _check_patterns("multipliers", [pattern for pattern, _ in multipliers], paths)
        _check_patterns("no_decay", no_decay, paths)
        _check_patterns("constant_rate", constant_rate, paths)
        return chain.init(split(params, frozen)[0])

    def update(gradient: Any, state: Any, params: Any, *, rate: Any) -> tuple[Any, Any]:
        if rate_first:
            return chain.update(gradient, state, params, rate=rate)
        change, state = chain.update(gradient, state, params)
        return at_rate(change, rate), state

    return Optimizer(init, update, frozen)


def _after_rate(inner: optax.GradientTransformation, at_rate: Callable[[Any, Any], Any]) -> optax.GradientTransformationExtraArgs:
    """`inner` of the updates times the rate."""

    def update(updates: Any, state: Any, params: Any = None, *, rate: Any, **others: Any) -> tuple[Any, Any]:
        del others
        return inner.update(at_rate(updates, rate), state, params)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _by_path(what: Callable[[str, Any], Any], params: Any) -> Any:
    """A tree of what becomes of each (path, leaf)."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: what(jax.tree_util.keystr(path, simple=True, separator="/"), leaf), params)


def _factor(path: str, multipliers: Sequence[tuple[str, float]]) -> float:
    return next((factor for pattern, factor in reversed(multipliers) if fnmatch.fnmatchcase(path, pattern)), 1.0)


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _check_patterns(field: str, patterns: Sequence[str], paths: Sequence[str]) -> None:
    for pattern in patterns:
        if any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            continue
        folders = {"/".join(path.split("/")[:depth]) + "/*" for path in paths for depth in range(1, path.count("/") + 1)}
        near = difflib.get_close_matches(pattern, [*paths, *sorted(folders)], 2, 0.6)
        meant = (
            f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(sorted({p.split('/')[0] for p in paths}))}"
        )
        raise UserError(f"config.optimizer.{field}: {pattern!r} matches no parameter's path: {meant}")
