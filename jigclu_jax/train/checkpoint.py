"""Orbax checkpoints of a run: asynchronous, the last and the best kept, whole or not at all.

A checkpoint `DIR/checkpoints/STEP` holds `state` (the TrainState) and `meta` (JSON: config, class list, number of
examples, seconds trained so far, epoch means). A save that was cut short leaves a temporary folder that is never read, a
removal that was cut short a folder that cannot be read, older than two that can.
"""

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jigclu_jax.config.stored import current_form
from jigclu_jax.errors import UserError, one_line
from jigclu_jax.train.orbax_logging import quiet_orbax
from jigclu_jax.train.state import TrainState, Tree

FOLDER = "checkpoints"
FORMAT = 1
# the last two: should the newest turn out damaged, the one before it is there
KEEP_LAST = 2


class Checkpoints:
    """The checkpoints of one workdir, for writing and for going on."""

    def __init__(self, workdir: epath.PathLike, *, best_metric: str = "", best_mode: str = "max") -> None:
        quiet_orbax()
        self._best_metric = best_metric
        self._damaged: set[int] = set()
        keep: list[preservation_policy.PreservationPolicy] = [preservation_policy.LatestN(KEEP_LAST)]
        if best_metric:
            sign = 1.0 if best_mode == "max" else -1.0

            def rank(metrics: Mapping[str, float]) -> float:
                return sign * metrics[best_metric]

            keep.append(preservation_policy.BestN(get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=preservation_policy.AnyPreservationPolicy(keep),
            best_fn=(lambda metrics: metrics[best_metric]) if best_metric else None,
            best_mode=best_mode,
            cleanup_tmp_directories=True,
            enable_async_checkpointing=True,
        )
        self._manager = ocp.CheckpointManager(_folder(workdir), options=options, item_names=("state", "meta"))

    def save(self, step: int, state: TrainState, meta: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Start writing the state after `step` updates; returns while the files are written in the background."""
        if step in self._damaged:
            self._manager.delete(step)
            self._damaged.discard(step)
        elif step in self._manager.all_steps():
            return
        ranked = {self._best_metric: float(metrics[self._best_metric])} if metrics and self._best_metric in metrics else None
        items = ocp.args.Composite(state=ocp.args.StandardSave(_as_dict(state)), meta=ocp.args.JsonSave({"format": FORMAT, **meta}))
        self._manager.save(step, args=items, metrics=ranked, force=True)

    def steps(self) -> list[int]:
        """Steps of the checkpoints that were completed, the oldest first."""
        return sorted(self._manager.all_steps())

    def restore_newest(
        self, target: TrainState, check: Callable[[Mapping[str, Any]], None] = lambda meta: None
    ) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest checkpoint that can be read, onto the target's shardings, with its meta; None where there is none.

        Args:
          target: shapes, dtypes and shardings.
          check: sees the meta first, and may refuse it.

        Raises:
          UserError: there are checkpoints and none can be read, the newest is of a later format or of another model, or `check` refuses.
        """
        reason = ""
        for step in reversed(self.steps()):
            try:
                items = ocp.args.Composite(meta=ocp.args.JsonRestore())
                meta = self._manager.restore(step, args=items)["meta"]
                check_format(meta, f"checkpoint {step} in {self.folder}")
                check(meta)
                self._check_shapes(step, target)
                items = ocp.args.Composite(state=ocp.args.StandardRestore(_as_dict(target)))
                restored = self._manager.restore(step, args=items)
            except UserError:
                raise
            except Exception as error:  # whatever a damaged file makes a reader raise
                logging.warning("checkpoint %d of %s cannot be read (%s): trying the one before it", step, self.folder, one_line(error))
                reason = reason or one_line(error)
                self._damaged.add(step)  # written anew when the run gets there again
                continue
            return TrainState(**restored["state"]), meta
        if self.steps():
            raise UserError(f"none of the checkpoints {self.steps()} in {self.folder} can be read ({reason}): use another workdir")
        return None

    def _check_shapes(self, step: int, target: TrainState) -> None:
        with ocp.PyTreeCheckpointer() as reader:
            there = _shapes(reader.metadata(self.folder / str(step) / "state").item_metadata.tree)
        here = _shapes(_as_dict(target))
        for name in sorted(there.keys() | here.keys()):
            if there.get(name) != here.get(name):
                found, wanted = (f"of shape {tree[name]}" if name in tree else "missing" for tree in (there, here))
                raise UserError(
                    f"checkpoint {step} in {self.folder} is of another model: {name} is {found} there and {wanted} in this run: "
                    "use another workdir, or the config that it was begun with"
                )

    @property
    def folder(self) -> epath.Path:
        """Where the checkpoints lie."""
        return epath.Path(self._manager.directory)

    def reached_preemption(self, step: int) -> bool:
        """Whether the cloud has announced a preemption; all processes get the same answer at the same step."""
        return jax.distributed.is_initialized() and self._manager.reached_preemption(step)

    def wait(self) -> None:
        """Return once everything is on disk; errors of the background writing come out here."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and release the writer's threads."""
        self._manager.wait_until_finished()
        self._manager.close()


def check_format(meta: Mapping[str, Any], name: str) -> None:
    """Refuse a checkpoint that a later version of the library wrote in another form.

    Raises:
      UserError: with both numbers.
    """
    if meta.get("format", FORMAT) > FORMAT:
        raise UserError(
            f"{name} has format {meta['format']}, written by a newer version of this library; this one reads up to {FORMAT}: update it"
        )


def read_checkpoint(workdir: epath.PathLike, which: str = "last") -> tuple[int, dict[str, Any], Tree]:
    """Step, meta and state (nested dicts of numpy arrays) of a workdir's checkpoint, without building its model.

    Args:
      workdir: the workdir of a training run.
      which: "last", "best", or a step's number.

    Raises:
      UserError: no such workdir, no checkpoint in it, or it cannot be read.
    """
    quiet_orbax()
    root = epath.Path(workdir).expanduser()
    if not root.exists():
        raise UserError(f"checkpoint {root} does not exist: give the workdir of a finished or running training job")
    if not (root / FOLDER).exists():
        below = sorted(folder.parent.name for folder in root.glob(f"*/{FOLDER}"))  # of a search or a demo, say
        other = f"; there is one in {', '.join(f'{root / name}' for name in below)}" if below else ""
        raise UserError(f"{root} holds no {FOLDER}/ folder: give the workdir of a training job, the folder above {FOLDER}/{other}")
    options = ocp.CheckpointManagerOptions(read_only=True, best_fn=lambda metrics: next(iter(metrics.values())))
    meta_items = ocp.args.Composite(meta=ocp.args.JsonRestore())
    with ocp.CheckpointManager(_folder(root), options=options, item_names=("state", "meta")) as manager:
        steps = manager.all_steps()
        if not steps:
            raise UserError(f"{root / FOLDER} holds no complete checkpoint: the run was stopped before its first save")
        step = last = max(steps)
        try:
            if which == "last":
                step = last
            elif which == "best":
                config = manager.restore(last, args=meta_items)["meta"]["config"]
                saving = current_form(config)["saving"]
                step = _best_step(manager, steps, saving["best_metric"], saving["best_mode"])
            elif str(which).isdigit():
                step = int(which)
                if step not in steps:
                    raise UserError(f"{root / FOLDER} holds no step {step}: it holds {sorted(steps)}")
            else:
                raise UserError(f"checkpoint {which!r} is unknown: use 'last', 'best' or a step's number")
            meta = manager.restore(step, args=meta_items)["meta"]
            check_format(meta, f"checkpoint {step} in {root / FOLDER}")
            meta["config"] = current_form(meta["config"])
            tree = _read_state(_folder(root) / str(step) / "state")
        except UserError:
            raise
        except Exception as error:
            others = f"; it also holds steps {sorted(set(steps) - {step})}" if len(steps) > 1 else ""
            raise UserError(f"checkpoint {step} in {root / FOLDER} cannot be read: {one_line(error)}{others}") from error
    return step, meta, tree


def weights(tree: Tree, meta: Mapping[str, Any], which: str, where: str) -> tuple[Tree, Tree]:
    """(params, stats) of a state from `read_checkpoint`: the "params" that trained, or the moving averages, "ema".

    Raises:
      UserError: naming `where` the checkpoint was asked for: another word, or a run that kept no averages.
    """
    if which not in ("params", "ema"):
        raise UserError(f"{where}: weights {which!r} are unknown: use 'params' or 'ema'")
    if which == "ema" and not tree.get("ema"):
        decay = meta["config"].get("ema_decay", 0.0)
        raise UserError(f"{where} holds no moving averages, it was trained with config.ema_decay={decay}: use the weights 'params'")
    chosen = tree["ema"] if which == "ema" else tree
    return chosen.get("params", {}), chosen.get("stats", {})


def _best_step(manager: ocp.CheckpointManager, steps: list[int], metric: str, mode: str) -> int:
    values = {step: manager.metrics(step) for step in steps}
    ranked = [(found[metric], step) for step, found in values.items() if found and metric in found]
    if not ranked:
        return max(steps)
    sign = 1.0 if mode == "max" else -1.0
    return max(ranked, key=lambda pair: (sign * pair[0], pair[1]))[1]


def _read_state(path: epath.Path) -> Tree:
    """The saved tree as numpy arrays, whatever devices and shardings it was written from."""
    with ocp.PyTreeCheckpointer() as reader:
        metadata = reader.metadata(path).item_metadata.tree
        restore_args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
        return reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=restore_args))


def _folder(workdir: epath.PathLike) -> epath.Path:
    """Absolute, because orbax notices a relative folder only in its background thread."""
    path = epath.Path(workdir) / FOLDER
    return path if "://" in str(path) else path.resolve()


def _as_dict(state: TrainState) -> Tree:
    fields = ("step", "params", "stats", "opt", "extra", "sums", *(("ema",) if state.ema else ()))
    return {field: getattr(state, field) for field in fields}


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    """Path -> shape; a step of a path is a name or a number, whatever sort of node it belongs to."""
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: hasattr(node, "shape"))
    return {re.sub(r"[^\w]+", "/", jax.tree_util.keystr(path)).strip("/"): tuple(leaf.shape) for path, leaf in leaves}
