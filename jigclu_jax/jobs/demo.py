"""Job `demo`: pretrain, probe and yardsticks on the embedded data set, one after the other, and a page over all of them."""

import json
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.atomic_file import write_text
from jigclu_jax.data.sources.opening import Source, open_source
from jigclu_jax.device import distributed
from jigclu_jax.evals.bootstrap import accuracy_interval
from jigclu_jax.evals.logistic import linear_probe
from jigclu_jax.evals.pixels import colour_histogram, pixel_features
from jigclu_jax.jobs import pretrain, probe
from jigclu_jax.jobs.accuracy import IMAGES, open_eval_source
from jigclu_jax.jobs.reporting import report, say_result
from jigclu_jax.json_file import NUMBER, read_json
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.holding import held_workdir
from jigclu_jax.train.workdir import open_workdir, read_result, write_result

CHANCE = "chance"


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Run the steps that are not done yet, each in a folder of its own, then write report.html and result.json on top."""
    distributed.start()
    with held_workdir(workdir, config):
        _demo(config, workdir)


def _demo(config: ConfigDict, workdir: epath.PathLike) -> None:
    root = open_workdir(workdir, config, write=distributed.is_main())
    _say(root, "pretrain", "jigsaw clustering, no labels")
    pretrain.run(config.pretrain, root / "pretrain")
    _say(root, "probe", "linear probe on the frozen pretrained backbone, and on random weights")
    probe.run(_of(config.probe, root / "pretrain"), root / "probe")
    _say(root, "supervised", "the same backbone trained with labels")
    pretrain.run(config.supervised, root / "supervised")
    _say(root, "probe_supervised", "linear probe on the backbone trained with labels")
    control = _of(config.probe, root / "supervised")
    control.random_init = False
    probe.run(control, root / "probe_supervised")
    baselines = _baselines(config.probe, root)
    if not distributed.is_main():
        return
    folders = ("pretrain", "probe", "supervised", "probe_supervised")
    results = {name: read_result(root / name) or {} for name in folders}
    ours, seed = results["probe"], config.probe.seed
    top1 = {
        "JigClu pretraining": ours["probe_top1_last"],
        "random initialisation": ours["probe_top1_random_init"],
        "trained with labels": results["probe_supervised"]["probe_top1_last"],
        **baselines,
    }
    images = ours[IMAGES]  # the same for every row but guessing
    intervals = {name: list(accuracy_interval(round(value * images), images, seed)) for name, value in top1.items() if name != CHANCE}
    copied = ("probe_top1_last", "probe_top1_best", "probe_top5_last", "probe_top1_random_init")
    seconds = {name: result["seconds"] for name, result in results.items()}
    result = write_result(
        root,
        {
            "job": config.job,
            "seed": config.seed,
            "seconds": sum(seconds.values()),
            "images_per_second": results["pretrain"]["images_per_second"],
            **{f"{name}{end}": ours[f"{name}{end}"] for name in copied for end in ("", "_interval")},
            "probe_top1": top1,
            "probe_top1_interval": intervals,
            "seconds_by_step": seconds,
        },
    )
    say_result(result)
    report(root)
    print(f"report: {root / 'report.html'}", flush=True)


def _of(config: ConfigDict, checkpoint: epath.Path) -> ConfigDict:
    """The probe's config for one checkpoint."""
    config = config.copy_and_resolve_references()
    config.checkpoint = str(checkpoint)
    return config


def _baselines(config: ConfigDict, root: epath.Path) -> dict[str, float]:
    """Top-1 of linear probes that see no backbone at all; kept in a file, since they do not change."""
    path = root / "baselines.json"
    if path.exists():
        return read_json(path, dict.fromkeys(("raw pixels", "colour histogram", CHANCE), NUMBER), "delete it, and start again")
    source = open_source(config.data, seed=config.seed)
    held_out = open_eval_source(config, source)
    (train_images, train_labels), (test_images, test_labels) = _arrays(source), _arrays(held_out)
    classes = len(source.classes or ())
    found: dict[str, float] = {}
    for name, features in (("raw pixels", pixel_features), ("colour histogram", colour_histogram)):
        found[name] = float(linear_probe(features(train_images), train_labels, features(test_images), test_labels, classes))
    found[CHANCE] = 1 / classes
    if distributed.is_main():
        write_text(path, json.dumps(found, indent=2) + "\n")
    return found


def _arrays(source: Source) -> tuple[Any, Any]:
    return np.stack([source.read(index) for index in range(len(source))]), np.asarray(source.labels)


def _say(root: epath.Path, step: str, what: str) -> None:
    if distributed.is_main():
        print(f"== {root / step}: {what}", flush=True)
