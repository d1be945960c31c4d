"""Orbax checkpoints of a run: asynchronous, the last and the best kept, whole or not at all, and verified when they are read.

A checkpoint `DIR/checkpoints/STEP` holds `state` (the TrainState) and `meta` (JSON: config, class list, number of
examples, seconds trained so far, epoch means, digests of it all). A save that was cut short leaves a temporary folder that is never read, a
removal that was cut short a folder that cannot be read, older than two that can.
"""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jigclu_jax.config.stored import current_form
from jigclu_jax.errors import UserError, one_line
from jigclu_jax.json_file import NUMBER, check_kinds
from jigclu_jax.models import build_backbone
from jigclu_jax.train.digests import named_leaves
from jigclu_jax.train.orbax_logging import quiet_orbax
from jigclu_jax.train.state import TrainState, Tree
from jigclu_jax.train.stored import (
    FIRST_NAME,
    NAME,
    check_format,
    check_state,
    complete_steps,
    drop_unreadable,
    read_meta,
    read_score,
    read_state,
    renamed,
    sealed,
    stored_shapes,
)

FOLDER = "checkpoints"
Shapes = dict[str, tuple[int, ...]]  # path of a leaf -> its shape
# the last two: should the newest turn out damaged, the one before it is there
KEEP_LAST = 2


class _Manager(ocp.CheckpointManager):
    """Orbax's, which reads the metrics of every checkpoint when it is opened: what cannot be read counts as not there."""

    def __init__(self, metric: str, *arguments: Any, **options: Any) -> None:
        self._metric = metric
        super().__init__(*arguments, **options)

    def metrics(self, step: int) -> dict[str, float] | None:
        value = read_score(epath.Path(self.directory) / str(step), self._metric)
        return None if value is None else {self._metric: value}


class Checkpoints:
    """The checkpoints of one workdir, for writing and for going on."""

    def __init__(
        self, workdir: epath.PathLike, *, best_metric: str = "", best_mode: str = "max", before_save: Callable[[], object] = bool
    ) -> None:
        quiet_orbax()
        self._before_save = before_save
        self._best_metric = best_metric
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
        drop_unreadable(_folder(workdir))
        self._manager = _Manager(best_metric, _folder(workdir), options=options, item_names=("state", "meta"))
        # folders without a checkpoint in them, which orbax counts, are overwritten, too
        self._damaged = set(self._manager.all_steps()) - set(complete_steps(self.folder))

    def save(self, step: int, state: TrainState, meta: Mapping[str, Any], metrics: Mapping[str, float] | None = None) -> None:
        """Start writing the state after `step` updates; returns while the files are written in the background."""
        self._before_save()  # which may raise
        if step in self._damaged:
            self._manager.delete(step)
            self._damaged.discard(step)
        elif step in self._manager.all_steps():
            return
        ranked = {self._best_metric: float(metrics[self._best_metric])} if metrics and self._best_metric in metrics else None
        tree = _as_dict(state)
        items = ocp.args.Composite(state=ocp.args.StandardSave(tree), meta=ocp.args.JsonSave(sealed(meta, tree, ranked)))
        self._manager.save(step, args=items, metrics=ranked, force=True)

    def replace(self, step: int) -> None:
        """The next `save` of that step writes it anew."""
        self._damaged.add(step)

    def steps(self) -> list[int]:
        """Steps of the checkpoints that were completed, the oldest first."""
        return complete_steps(self.folder)

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
                meta, wanted, first = _examined(self.folder, step, target, check)
                restored = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted)))["state"]
                restored = renamed(restored, FIRST_NAME, NAME) if first else restored
                check_state(restored, meta, self.folder / str(step))
            except UserError:
                raise
            except Exception as error:  # whatever a damaged file makes a reader raise
                logging.warning("checkpoint %d of %s cannot be read (%s): trying the one before it", step, self.folder, one_line(error))
                reason = reason or one_line(error)
                self._damaged.add(step)  # written anew when the run gets there again
                continue
            return TrainState(**restored), meta
        if self.steps():
            raise UserError(f"none of the checkpoints {self.steps()} in {self.folder} can be read ({reason}): use another workdir")
        return None

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


def check_newest(workdir: epath.PathLike, target: TrainState, check: Callable[[Mapping[str, Any]], None]) -> None:
    """What `Checkpoints.restore_newest` refuses by the meta, told before anything is written; reads no arrays."""
    folder = _folder(workdir)
    for step in reversed(complete_steps(folder)):
        try:
            _examined(folder, step, target, check)
            return
        except UserError:
            raise
        except Exception:  # whatever a damaged file makes a reader raise: the one before it counts, and is told of later
            continue


def _examined(
    folder: epath.Path, step: int, target: TrainState, check: Callable[[Mapping[str, Any]], None]
) -> tuple[dict[str, Any], Tree, bool]:
    """Meta of a checkpoint, the tree to restore, and whether version 0.1.0 wrote it; raises as `restore_newest`, or as a reader does."""
    meta = read_meta(folder / str(step))
    check_format(meta, f"checkpoint {step} in {folder}")
    check(meta)
    there, wanted = _stored_shapes(folder / str(step), meta), _as_dict(target)
    first = any(FIRST_NAME in name.split("/") for name in there)
    wanted = renamed(wanted, NAME, FIRST_NAME) if first else wanted
    here = _shapes(wanted)
    for name in sorted(there.keys() | here.keys()):
        if there.get(name) != here.get(name):
            found, needed = (f"of shape {tree[name]}" if name in tree else "missing" for tree in (there, here))
            raise UserError(
                f"checkpoint {step} in {folder} is of another model: {name} is {found} there and {needed} in this run: "
                "use another workdir, or the config that it was begun with"
            )
    return meta, wanted, first


def _stored_shapes(checkpoint: epath.Path, meta: Mapping[str, Any]) -> Shapes:
    there = stored_shapes(meta)
    if there is not None:
        return there
    with ocp.PyTreeCheckpointer() as reader:
        return _shapes(reader.metadata(checkpoint / "state").item_metadata.tree)


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
    if root.is_file():
        raise UserError(f"checkpoint {root} is a file: give a training job's workdir, or the file as config.weights")
    if not (root / FOLDER).exists():
        below = sorted(folder.parent.name for folder in root.glob(f"*/{FOLDER}"))  # of a search or a demo, say
        other = f"; there is one in {', '.join(f'{root / name}' for name in below)}" if below else ""
        raise UserError(f"{root} holds no {FOLDER}/ folder: give the workdir of a training job, the folder above {FOLDER}/{other}")
    folder = _folder(root)
    steps = complete_steps(folder)
    if not steps:
        raise UserError(f"{root / FOLDER} holds no complete checkpoint: the run was stopped before its first save")
    step = steps[-1]
    try:
        step = _choose(folder, steps, which)
        meta, tree = _read(folder / str(step))
        meta["config"] = current_form(meta["config"])
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes a reader raise
        others = _whole(folder, [other for other in steps if other != step])
        raise UserError(f"checkpoint {step} in {root / FOLDER} is damaged: {one_line(error)}; {others}") from error
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


def stored_backbone(tree: Tree, meta: Mapping[str, Any], which: str, where: str) -> tuple[Tree, Tree, dict[str, Any]]:
    """(params, stats, model) of the backbone in a state from `read_checkpoint`; `which` as in `weights`, model as the config has it.

    Raises:
      UserError: naming `where` the checkpoint was asked for: no backbone, or another one than the config describes.
    """
    params, stats = weights(tree, meta, which, where)
    if "backbone" not in params or "backbone" not in stats:
        raise UserError(f"{where} holds a {meta['config']['job']} without a backbone of its own: give the pretraining run's workdir")
    model = meta["config"].get("model")
    try:
        check_kinds(model if isinstance(model, dict) else {}, {"arch": (str,), "stem": (str,), "width": NUMBER, "dtype": (str,)})
        network = build_backbone({name: model[name] for name in ("arch", "stem", "width")})
    except (ValueError, UserError) as error:
        raise UserError(
            f"{where}: the config in the checkpoint describes no backbone ({one_line(error)}): use another checkpoint"
        ) from None
    found, wanted = _shapes((params["backbone"], stats["backbone"])), _shapes(jax.eval_shape(network.init, jax.random.key(0)))
    if found != wanted:
        name = next(name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name))
        what = f"the config in the checkpoint describes a {model['arch']} (stem {model['stem']}, width {model['width']:g})"
        raise UserError(f"{where}: {what}, and its weights are another backbone's ({name} differs): use another checkpoint")
    return params["backbone"], stats["backbone"], model


def _read(checkpoint: epath.Path) -> tuple[dict[str, Any], Tree]:
    """Meta and state of one checkpoint; raises whatever a damaged file makes a reader raise."""
    meta = read_meta(checkpoint)
    check_format(meta, f"checkpoint {checkpoint.name} in {checkpoint.parent}")
    state = read_state(checkpoint)
    check_state(state, meta, checkpoint)
    return meta, state


def _choose(folder: epath.Path, steps: list[int], which: str) -> int:
    """The step that is asked for."""
    if which == "last":
        return steps[-1]
    if which == "best":
        return _best_step(folder, steps)
    if not str(which).isdecimal():
        raise UserError(f"checkpoint {which!r} is unknown: use 'last', 'best' or a step's number")
    if int(which) not in steps:
        raise UserError(f"{folder} holds no step {int(which)}: it holds {steps}")
    return int(which)


def _best_step(folder: epath.Path, steps: list[int]) -> int:
    """The step with the best score; the last one where no score is known."""
    metas: dict[int, dict[str, Any]] = {}
    for step in steps:
        try:
            metas[step] = read_meta(folder / str(step))
        except (OSError, ValueError) as error:
            logging.warning("checkpoint %d in %s is damaged (%s): the best is chosen among the others", step, folder, one_line(error))
    if not metas:
        return steps[-1]
    saving = current_form(metas[max(metas)]["config"])["saving"]
    sign = 1.0 if saving["best_mode"] == "max" else -1.0
    scores = {step: read_score(folder / str(step), saving["best_metric"]) for step in metas}
    ranked = [(sign * score, step) for step, score in scores.items() if score is not None]
    return max(ranked)[1] if ranked else max(metas)


def _whole(folder: epath.Path, steps: list[int]) -> str:
    """Which of the steps can be read, in words."""
    found = []
    for step in steps:
        with contextlib.suppress(Exception):
            _read(folder / str(step))
            found.append(step)
    return f"whole {'are steps' if len(found) > 1 else 'is step'} {', '.join(map(str, found))}" if found else "no other one is whole"


def _folder(workdir: epath.PathLike) -> epath.Path:
    """Absolute, because orbax notices a relative folder only in its background thread."""
    path = epath.Path(workdir) / FOLDER
    return path if "://" in str(path) else path.resolve()


def _as_dict(state: TrainState) -> Tree:
    fields = ("step", "params", "stats", "opt", "extra", "sums", *(("ema",) if state.ema else ()))
    return {field: getattr(state, field) for field in fields}


def _shapes(tree: Any) -> Shapes:
    return {name: tuple(leaf.shape) for name, leaf in named_leaves(tree).items()}
