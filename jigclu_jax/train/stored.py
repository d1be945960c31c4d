"""Reads a checkpoint's folder with care: which steps are complete, meta, score and state, and whether they are whole.

The meta of a checkpoint holds the digests of the state's leaves (`train/digests.py`) and one of its own. Version 0.1.0 wrote none.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from jigclu_jax.errors import UserError
from jigclu_jax.json_file import NOTHING, NUMBER, check_kinds, parse_json
from jigclu_jax.train.digests import changed_leaf, digests

FORMAT = 1
NAME, FIRST_NAME = "backbone", "trunk"  # of what is pretrained, now and in version 0.1.0
Tree = dict[str, Any]
_LEAVES, _DIGEST, _SCORE = "leaves", "digest", "score"
_KINDS = {"config": (dict,), "seconds": NUMBER}
_MAYBE = {"format": (int,), "classes": (list, NOTHING), "images": (int,), "timed": (list,), _LEAVES: (dict,), _SCORE: (dict, NOTHING)}


def complete_steps(folder: epath.Path) -> list[int]:
    """Steps of the checkpoints in `checkpoints/` that were committed and are not empty, the oldest first."""
    found = ocp.utils.checkpoint_steps(folder) if folder.exists() else []
    return sorted(step for step in found if any((folder / str(step) / item).exists() for item in ("state", "meta")))


def drop_unreadable(folder: epath.Path) -> None:
    """Remove those of orbax's notes on the time of a save that hold no JSON: it reads them all when it is opened, and needs none."""
    for step in complete_steps(folder):
        path = folder / str(step) / "_CHECKPOINT_METADATA"
        with contextlib.suppress(OSError):
            try:
                parse_json(path.read_bytes())
            except ValueError:
                path.unlink(missing_ok=True)


def sealed(meta: Mapping[str, Any], state: Tree, score: Mapping[str, float] | None) -> dict[str, Any]:
    """The meta with what tells later that neither it nor the state has changed; `score` is what the best checkpoint is chosen by."""
    whole = json.loads(json.dumps({"format": FORMAT, **meta, _SCORE: score, _LEAVES: digests(state)}))
    return {**whole, _DIGEST: _digest(whole)}


def read_meta(checkpoint: epath.Path) -> dict[str, Any]:
    """The meta of one checkpoint.

    Raises:
      OSError, ValueError: it cannot be read, or has changed since it was written.
    """
    meta = parse_json((checkpoint / "meta" / "metadata").read_bytes(), _KINDS)
    check_kinds(meta, {name: types for name, types in _MAYBE.items() if name in meta})
    if not isinstance(meta["config"].get("job"), str):
        raise ValueError("its meta holds no config")
    if "timed" in meta and [type(value) in NUMBER for value in meta["timed"]] != [True, True]:
        raise ValueError("`timed` is no pair of numbers")
    if not all(isinstance(name, str) for name in meta.get("classes") or ()):
        raise ValueError("`classes` is no list of names")
    if _DIGEST in meta or _LEAVES in meta:
        rest = {name: value for name, value in meta.items() if name != _DIGEST}
        if meta.get(_DIGEST) != _digest(rest):
            raise ValueError("its meta has changed since it was written")
    return meta


def read_score(checkpoint: epath.Path, metric: str) -> float | None:
    """The metric that a checkpoint was saved with; None where it has none, or where that cannot be read any more."""
    try:
        meta = read_meta(checkpoint)
        found = meta[_SCORE] if _DIGEST in meta else parse_json((checkpoint / "metrics" / "metrics").read_bytes())
        value = (found or {}).get(metric)
    except (OSError, ValueError):
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_state(checkpoint: epath.Path) -> Tree:
    """The saved tree as numpy arrays, whatever devices and shardings it was written from; raises what orbax does."""
    path = checkpoint / "state"
    with ocp.PyTreeCheckpointer() as reader:
        found = reader.metadata(path).item_metadata
        if found is None:
            raise ValueError("its arrays are not there")
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), found.tree)
        return renamed(reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=restore_args)), FIRST_NAME, NAME)


def renamed(node: Any, old: str, new: str) -> Any:
    """A tree of dicts, lists and tuples, of which optimizers make their state, with another key wherever `old` is one."""
    if isinstance(node, dict):
        return {new if name == old else name: renamed(child, old, new) for name, child in node.items()}
    if isinstance(node, list | tuple):
        children = [renamed(child, old, new) for child in node]
        return type(node)(*children) if hasattr(node, "_fields") else type(node)(children)
    return node


def stored_shapes(meta: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Path of each leaf -> shape, as the meta tells; None where it does not."""
    if _LEAVES not in meta:
        return None
    texts = {name: text.partition("[")[2].partition("]")[0] for name, text in meta[_LEAVES].items()}
    return {name: tuple(int(part) for part in text.split(",") if part) for name, text in texts.items()}


def check_state(state: Tree, meta: Mapping[str, Any], checkpoint: epath.Path) -> None:
    """ValueError where the state is not what was written, or another step's; says so where that cannot be known."""
    step = int(state["step"])
    if step != int(checkpoint.name):
        raise ValueError(f"it holds the state of step {step}")
    if _LEAVES not in meta:
        logging.warning("checkpoint %s was written by an earlier version, without digests: whether it is whole cannot be told", checkpoint)
        return
    name = changed_leaf(meta[_LEAVES], digests(state))
    if name:
        raise ValueError(f"{name} has changed since it was written")


def check_format(meta: Mapping[str, Any], name: str) -> None:
    """Refuse a checkpoint that a later version of the library wrote in another form.

    Raises:
      UserError: with both numbers.
    """
    if meta.get("format", FORMAT) > FORMAT:
        raise UserError(
            f"{name} has format {meta['format']}, written by a newer version of this library; this one reads up to {FORMAT}: update it"
        )


def _digest(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
