"""Job `finetune`: train backbone and a new classifier together, from a pretrained backbone, imported weights or from scratch.

The method is training with labels (`methods/supervised.py`) with another state at step 0. With a search, every pair of rates and
decays is a run of its own in WORKDIR/trials, judged on a held-out part of train; the final run in WORKDIR/final sees all of train and
looks at the evaluation images once. Without one, the run lies in WORKDIR itself. Controls are the same in WORKDIR/controls/START.
"""

import itertools
import logging
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config import check_config
from jigclu_jax.data.sources.opening import Source, Subset
from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.errors import NonFiniteError, UserError
from jigclu_jax.evals.labels import check_labels, held_out_mask
from jigclu_jax.jobs.backbones import Backbone, checkpoint_backbone, imported_backbone, origin_fields, with_model
from jigclu_jax.jobs.classifier import open_labelled, prepare_classification
from jigclu_jax.jobs.reporting import report, say_result
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.checkpoint import FOLDER
from jigclu_jax.train.holding import held_workdir
from jigclu_jax.train.workdir import check_workdir, open_workdir, read_result, write_result

TRIALS, FINAL, CONTROLS = "trials", "final", "controls"
HEAD = "classifier/*"
ACCURACIES = ("finetune_top1_last", "finetune_top1_best", "finetune_top5_last", "finetune_top5_best")
FIGURES = (*ACCURACIES, *(f"{name}_interval" for name in ACCURACIES), "finetune_best_epoch")


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Fine-tune as the config says; leaves the files of a training job, the search and the controls in result.json and report.html.

    Raises:
      UserError: a start, data or numbers that cannot work.
    """
    distributed.start()
    start_cache()
    check_config(config)
    _check_starts(config)
    backbones = {config.init: _backbone(config, config.init)}
    config = _with_model(with_head_rate(config), backbones[config.init])
    backbones |= {start: _backbone(config, start) for start in _control_names(config)}  # which must be of the same architecture
    with held_workdir(workdir, config):
        _finetune(config, epath.Path(workdir), backbones)


def _finetune(config: ConfigDict, root: epath.Path, backbones: dict[str, Backbone | None]) -> None:
    source, eval_source = _images(config)
    try:
        result = _searched(config, root, backbones[config.init], source, eval_source)
        others = {}
        for start in _control_names(config):
            control = _changed(config, {"init": start, "controls": ""})
            others[start] = _searched(control, root / CONTROLS / start, backbones[start], source, eval_source)
    except UserError:
        if distributed.is_main():
            _remove_empty(root)
        raise
    if distributed.is_main():
        if others:
            result["controls"] = {start: {name: found[name] for name in (*FIGURES, "chosen")} for start, found in others.items()}
            write_result(root, result)
        report(root)
        say_result(result)
        for start, found in others.items():
            say_result(found, f"{start}: ")


def _check_starts(config: ConfigDict) -> None:
    """Refuse starts of fine-tuning that cannot be, and a search beside a held-out part.

    Raises:
      UserError: naming the field, its value and its range.
    """
    controls = _control_names(config)
    for name in controls:
        if name not in ("random", "weights") or name == config.init or controls.count(name) > 1:
            raise UserError(
                f"config.controls={config.controls!r}: use 'random', 'weights' or 'random,weights', other starts than config.init"
            )
    starts = (config.init, *controls)
    for name, what in (("checkpoint", "the workdir of a pretraining run"), ("weights", "a file of weights")):
        if name in starts and not config[name]:
            raise UserError(f"config.{name} is empty: give {what}, --config.{name}=PATH, or another config.init")
    if config.held_out and _searches(config):
        raise UserError(f"config.held_out={config.held_out:g} and config.search exclude each other: a search holds out by itself")


def _control_names(config: ConfigDict) -> tuple[str, ...]:
    """The starts that `config.controls` of fine-tuning names."""
    return tuple(name.strip() for name in config.controls.split(",") if name.strip())


def with_head_rate(config: ConfigDict) -> ConfigDict:
    """The config with the classifier's learning rate among the optimizer's multipliers, or none there where it is as coded.

    The authors' semi-supervised code gives the optimizer a group of its own for the classifier and then overwrites the rates of all
    groups with the backbone's before the first epoch: "coded" trains as that does, "meant" as their command line reads.
    """
    config = config.copy_and_resolve_references()
    others = tuple(pair for pair in config.optimizer.multipliers if pair[0] != HEAD)
    if config.schedule_as == "coded":
        config.optimizer.multipliers = others
    elif config.head_multiplier != 1.0:
        config.optimizer.multipliers = (*others, (HEAD, config.head_multiplier))
    return config


def _backbone(config: ConfigDict, start: str) -> Backbone | None:
    if start == "checkpoint":
        return checkpoint_backbone(config)
    return imported_backbone(config) if start == "weights" else None


def _with_model(config: ConfigDict, backbone: Backbone | None) -> ConfigDict:
    """The config with its backbone described in full: by the checkpoint, or by itself."""
    if backbone is not None:
        return with_model(config, backbone)
    config = config.copy_and_resolve_references()
    if not config.model.arch:
        raise UserError(f"config.model.arch is empty, and config.init={config.init!r} does not say it: give one, as resnet50")
    config.model.stem = config.model.stem or "imagenet"
    config.model.width = config.model.width or 1.0
    return config


def _images(config: ConfigDict) -> tuple[Source, Source]:
    """Training and evaluation images, labelled and of two classes at least."""
    source, eval_source = open_labelled(config)
    train, held = source.labels, eval_source.labels
    assert source.classes is not None and train is not None and held is not None
    for line in check_labels(train, held, source.classes):
        logging.warning("%s", line)
    return source, eval_source


def _searched(config: ConfigDict, root: epath.Path, backbone: Backbone | None, source: Source, eval_source: Source) -> dict[str, Any]:
    """The result of a run with the values that a search on held-out images chose, or of a single run where nothing is to choose."""
    pairs = list(itertools.product(_or(config, "learning_rate"), _or(config, "weight_decay")))
    if not _searches(config):
        return _single(config, root, backbone, source, eval_source)
    open_workdir(root, config, write=distributed.is_main())
    trials = []
    for number, (rate, decay) in enumerate(pairs, 1):
        where = root / TRIALS / f"learning_rate={rate:g},weight_decay={decay:g}"
        title = f"== {where}: trial {number} of {len(pairs)}"
        judged = _trial(_trial_config(config, rate, decay), where, backbone, source, title)
        trials.append({"learning_rate": rate, "weight_decay": decay} | judged)
    ended = [trial for trial in trials if trial["top1"] is not None]
    if not ended:
        raise UserError(f"every trial in {root / TRIALS} diverged: give lower config.search.learning_rates")
    best = max(ended, key=lambda trial: trial["top1"])  # of equals the first: the lowest rate where they are given in order
    chosen = {name: best[name] for name in ("learning_rate", "weight_decay")}
    title = f"== {root / FINAL}: all of train, learning rate {chosen['learning_rate']:g}, weight decay {chosen['weight_decay']:g}"
    final = _single(_final_config(config, chosen), root / FINAL, backbone, source, eval_source, title)
    seconds = final["seconds"] + sum(trial.pop("seconds") for trial in trials)
    result = final | {"seconds": seconds, "search": trials, "chosen": chosen}
    return write_result(root, result) if distributed.is_main() else result


def _single(
    config: ConfigDict, root: epath.Path, backbone: Backbone | None, source: Source, eval_source: Source, title: str = ""
) -> dict[str, Any]:
    """Train one classifier and backbone to the end; writes and returns its result. The title is printed once everything is checked."""
    if config.held_out:
        labels = source.labels
        assert labels is not None
        held = held_out_mask(labels, config.held_out, config.seed)
        source, eval_source = Subset(source, np.flatnonzero(~held)), Subset(source, np.flatnonzero(held))
    run = prepare_classification(config, root, source, eval_source)
    start = run.start(backbone)
    if title:
        _say(title)
    result = run.train(root, start)
    result |= {name: config[name] for name in ("init", "schedule_as", "head_multiplier", "held_out")}
    result |= origin_fields(config, backbone)
    result |= {"search": None, "controls": None, "chosen": {name: config.optimizer[name] for name in ("learning_rate", "weight_decay")}}
    if distributed.is_main():
        result = write_result(root, result)
        report(root)
    return result


def _trial(config: ConfigDict, where: epath.Path, backbone: Backbone | None, source: Source, title: str) -> dict[str, Any]:
    """Top-1 of a trial on the held-out images (None where it diverged) and its seconds; a trial that is done is not run again."""
    check_workdir(where, config)
    result = read_result(where)
    if result is None:
        try:
            result = _single(config, where, backbone, source, source, title)
        except NonFiniteError as error:
            _say(f"{where}: {error}")
            result = {"job": config.job, "seed": config.seed, "seconds": 0.0, "finetune_top1_last": None, "diverged": str(error)}
            if distributed.is_main():
                write_result(where, result)
        if distributed.is_main() and (where / FOLDER).exists():
            (where / FOLDER).rmtree()  # what it was for is known
    interval = result.get("finetune_top1_last_interval")
    return {"top1": result["finetune_top1_last"], "top1_interval": interval, "seconds": result["seconds"]}


def _searches(config: ConfigDict) -> bool:
    return bool(config.search.learning_rates or config.search.weight_decays)


def _or(config: ConfigDict, name: str) -> tuple[float, ...]:
    """The values that the search tries of a field of the optimizer."""
    return tuple(config.search[f"{name}s"]) or (config.optimizer[name],)


def _trial_config(config: ConfigDict, rate: float, decay: float) -> ConfigDict:
    epochs = config.search.epochs or config.epochs
    changed = _chosen(config, rate, decay, epochs)
    changed.held_out = config.search.held_out
    fraction = epochs / config.epochs
    # not rounded: a drop at epoch 0 would rank pairs at a rate that is not theirs
    changed.optimizer.milestones = tuple(round(milestone * fraction, 6) for milestone in config.optimizer.milestones)
    changed.optimizer.warmup_epochs = config.optimizer.warmup_epochs * fraction
    return changed


def _final_config(config: ConfigDict, chosen: dict[str, float]) -> ConfigDict:
    changed = _chosen(config, chosen["learning_rate"], chosen["weight_decay"], config.epochs)
    changed.eval_every_epochs = config.epochs  # one look, after the last
    return changed


def _chosen(config: ConfigDict, rate: float, decay: float, epochs: int) -> ConfigDict:
    """A single run of a search, complete in itself: `--workdir` of it alone goes on with it."""
    changed = _changed(config, {"controls": "", "epochs": epochs})
    changed.search.update({"learning_rates": (), "weight_decays": ()})
    changed.optimizer.update({"learning_rate": float(rate), "weight_decay": float(decay)})
    return changed


def _changed(config: ConfigDict, fields: dict[str, Any]) -> ConfigDict:
    changed = config.copy_and_resolve_references()
    changed.update(fields)
    return changed


def _remove_empty(root: epath.Path) -> None:
    """Remove the folders of runs that a refused call has not begun."""
    for folder in (root / TRIALS, root / CONTROLS):
        if folder.exists() and not any(folder.iterdir()):
            folder.rmdir()


def _say(text: str) -> None:
    if distributed.is_main():
        print(text, flush=True)
