"""Splits a state into what moves and what is frozen: parameters whose rate is 0, and the statistics of BatchNorms on such a path."""

from collections.abc import Callable
from typing import Any

import jax

from jigclu_jax.models import Frozen

Tree = dict[str, Any]
# path, as "backbone/bn1/mean" -> whether it stands still
IsFrozen = Callable[[str], bool]


def split(tree: Tree, frozen: IsFrozen, prefix: str = "") -> tuple[Tree, Tree]:
    """Nested dicts -> what moves and what stands still, both with all folders of the whole; `join` undoes it."""
    moving: Tree = {}
    still: Tree = {}
    for name, node in tree.items():
        if isinstance(node, dict):
            moving[name], still[name] = split(node, frozen, f"{prefix}{name}/")
        else:
            (still if frozen(f"{prefix}{name}") else moving)[name] = node
    return moving, still


def join(moving: Tree, still: Tree) -> Tree:
    """The tree that was `split` into these two."""
    folders = {name: join(node, still[name]) for name, node in moving.items() if isinstance(node, dict)}
    return {**still, **moving, **folders}


def freeze_statistics(stats: Tree, frozen: IsFrozen) -> Tree:
    """Statistics for `Method.forward`, in which BatchNorms that stand still run in eval mode."""
    moving, still = split(stats, frozen)
    return join(moving, jax.tree.map(Frozen, still))


def thaw_statistics(after: Tree, before: Tree, frozen: IsFrozen) -> Tree:
    """Plain statistics after a step: `after` from `Method.forward` where they move, to the bit `before` where they do not."""
    return join(split(after, frozen)[0], split(before, frozen)[1])
