"""Evaluations on features, from two banks to fields of result.json, which the jobs `fast_probe`, `knn` and `evaluate` share."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Bool, Int
from ml_collections import ConfigDict

from jigclu_jax.config import check_config
from jigclu_jax.data.sources.presets import folder_in_place_of_preset
from jigclu_jax.device import distributed
from jigclu_jax.device.compilation import start_cache
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.errors import counted
from jigclu_jax.evals.bootstrap import accuracy_interval
from jigclu_jax.evals.fast_probe import Probed, Settings, fast_probe, lbfgs_scores, ridge_scores
from jigclu_jax.evals.heads import Recipe
from jigclu_jax.evals.knn import knn_predictions, nearest
from jigclu_jax.jobs.backbones import Backbone, check_origin, open_backbone, origin_fields, random_backbone
from jigclu_jax.jobs.banks import FEATURES_STAY, Banks, Features, Sets, open_sets
from jigclu_jax.jobs.reporting import report, say_result
from jigclu_jax.losses.cross_entropy import hits
from jigclu_jax.models import build_backbone
from jigclu_jax.train.claim import Claim
from jigclu_jax.train.counting import announce, counter, stopping
from jigclu_jax.train.holding import held_workdir
from jigclu_jax.train.memory import check_pass, check_room
from jigclu_jax.train.workdir import open_workdir, write_result


@contextlib.contextmanager
def open_evaluation(config: ConfigDict, workdir: epath.PathLike) -> Iterator[tuple[ConfigDict, Backbone, Sets, Claim]]:
    """Start the runtime, hold the workdir, and open backbone and images; the config is the resolved one.

    Raises:
      UserError: whatever can be told before features are computed.
    """
    given, config = config, folder_in_place_of_preset(config)
    distributed.start()
    if config != given:
        announce(f"data: no preset was given: resized to {config.eval_data.resize}, cropped to {config.eval_data.crop} pixels")
    start_cache()
    check_config(config)
    check_origin(config)
    with held_workdir(workdir, config) as claim:
        backbone, sizes = open_backbone(config), (config.eval_batch_size, config.eval_data.crop)
        check_pass(backbone.model, *sizes, create_mesh(), "config.eval_batch_size or config.eval_data.crop")
        sets = open_sets(config)
        if "probe" in config:
            _check_heads(config, backbone, sets)
        yield config, backbone, sets, claim


def run_evaluation(
    config: ConfigDict, workdir: epath.PathLike, fields_of: Callable[[ConfigDict, Banks, Sets], tuple[dict[str, Any], Any]]
) -> None:
    """A job of one evaluation, `fields_of`; leaves config.json, result.json and report.html."""
    begun = time.monotonic()
    with open_evaluation(config, workdir) as (config, backbone, sets, claim):
        features = Features(config, workdir)
        banks = features.of_sets(backbone, sets)
        fields = common_fields(config, backbone, banks, sets) | fields_of(config, banks, sets)[0]
        if config.random_init:
            control = features.of_sets(random_backbone(backbone.model, config.seed), sets)
            fields |= of_random_backbone(fields_of(config, control, sets)[0])
        claim.check()
        if distributed.is_main():
            root = open_workdir(workdir, config)
            write_result(root, fields | {"seconds": time.monotonic() - begun})
            report(root)
        say_result(fields)


def _check_heads(config: ConfigDict, backbone: Backbone, sets: Sets) -> None:
    """Refuse more heads than memory holds: their kernels and speeds, and a batch's scores and errors."""
    columns, rows = len(settings_of(config).pairs) * len(sets.classes), min(config.probe.batch_size, len(sets.train))
    held = 2 * 4 * columns * (build_backbone(backbone.model).dim + rows)
    check_room({"heads, give fewer config.probe.learning_rates or config.probe.weight_decays": held}, create_mesh())


def neighbours_of(config: ConfigDict, images: int) -> tuple[int, ...]:
    """The numbers of neighbours of `config.knn`, none above that of the training images; one that had to be lowered is told."""
    found = tuple(dict.fromkeys(min(k, images) for k in config.knn.neighbours))
    if max(config.knn.neighbours) > images:
        logging.warning("config.knn.neighbours=%s: lowered to %s, as there are %d training images", config.knn.neighbours, found, images)
    return found


def settings_of(config: ConfigDict) -> Settings:
    """`config.probe` as the probe takes it."""
    probe = config.probe
    recipe = Recipe(probe.epochs, probe.batch_size, probe.momentum, config.seed)
    return Settings(probe.learning_rates, probe.weight_decays, recipe, probe.standardise, probe.held_out, probe.refit)


def probe_fields(config: ConfigDict, banks: Banks, sets: Sets) -> tuple[dict[str, Any], Probed]:
    """The grid of heads, and the classifiers beside it that `config.probe.checks` names."""
    begun = time.monotonic()
    settings, classes, labels = settings_of(config), len(sets.classes), banks.test.labels
    rows = counted(len(banks.train), "image")
    titles = {"heads": f"{counted(len(settings.pairs), 'head')} on {rows}", "refit": f"the chosen head on all {rows}"}
    says = {part: _counter(title, "epochs") for part, title in titles.items()}

    def say(part: str, epoch: int) -> None:
        says[part](epoch, settings.recipe.epochs)

    found = fast_probe(banks.train, banks.test, classes, settings, say)
    fields = _accuracy("probe_top1_last", hits(found.scores, labels), config.seed)
    if classes > 5:  # else it is always right
        fields |= _accuracy("probe_top5_last", hits(found.scores, labels, 5), config.seed)
    fields |= {
        "protocol": "linear heads on features of the frozen backbone, no augmentation",
        "head": _head(found, (found.learning_rate, found.weight_decay, found.held_out_top1), config.seed),
        "heads": [_head(found, head, config.seed) for head in found.heads],
        "held_out_images": found.held_out_images,
        "seconds_heads": time.monotonic() - begun,
    }
    if "ridge" in config.probe.checks:
        announce(f"ridge regression on {rows}")
        scores, penalty = ridge_scores(banks.train, banks.test, classes, settings)
        fields |= _accuracy("ridge_top1", hits(scores, labels), config.seed) | {"ridge_penalty": penalty}
    if "lbfgs" in config.probe.checks:
        announce(f"logistic regression by L-BFGS on {rows}")
        scores = lbfgs_scores(banks.train, banks.test, classes, settings, found.weight_decay)
        fields |= _accuracy("lbfgs_top1", hits(scores, labels), config.seed)
    return fields, found


def knn_fields(config: ConfigDict, banks: Banks, sets: Sets) -> tuple[dict[str, Any], dict[str, Int[np.ndarray, " n"]]]:
    """Weighted and plain votes for every number of neighbours: fields, and the predictions by name."""
    say = _counter(f"neighbours among {counted(len(banks.train), 'image')}")
    neighbours = neighbours_of(config, len(banks.train))
    similarity, index = nearest(banks.test.features, banks.train.features, max(neighbours), lambda done: say(done, len(banks.test)))
    predictions = knn_predictions(similarity, banks.train.labels[index], len(sets.classes), neighbours, config.knn.temperature)
    fields: dict[str, Any] = {}
    for name, predicted in predictions.items():
        fields |= _accuracy(f"knn_top1_{name}", predicted == banks.test.labels, config.seed)
    return fields, predictions


def common_fields(config: ConfigDict, backbone: Backbone, banks: Banks, sets: Sets) -> dict[str, Any]:
    """What every evaluation says about itself."""
    return {
        "job": config.job,
        "seed": config.seed,
        "backbone": backbone.origin,
        "model": backbone.model,
        **origin_fields(config, backbone),
        "backbone_digest": backbone.digest,
        "backbone_unchanged": True,  # else the features would have been refused
        "classes": len(sets.classes),
        "train_images": len(banks.train),
        "test_images": len(banks.test),
        "images_skipped": len(sets.train) + len(sets.test) - len(banks.train) - len(banks.test),
        "oddities": list(banks.oddities),
    }


def of_random_backbone(fields: dict[str, Any]) -> dict[str, Any]:
    """The accuracies among the fields, named as those of a backbone with random weights."""
    names = {"probe_top1_last": "probe_top1_random_init"}
    found = {}
    for name, value in fields.items():
        bare = name.removesuffix("_interval")
        if "_top1" in bare:
            found[names.get(bare, f"{bare}_random_init") + name.removeprefix(bare)] = value
    return found


def _accuracy(name: str, right: Bool[np.ndarray, " n"], seed: int) -> dict[str, Any]:
    return {name: float(np.mean(right)), f"{name}_interval": list(accuracy_interval(int(right.sum()), len(right), seed))}


def _head(probed: Probed, head: tuple[float, float, float], seed: int) -> dict[str, Any]:
    """A head's rate and decay, and its accuracy on the held-out part."""
    rate, decay, top1 = head
    interval = accuracy_interval(round(top1 * probed.held_out_images), probed.held_out_images, seed)
    return {"learning_rate": rate, "weight_decay": decay, "held_out_top1": top1, "held_out_top1_interval": list(interval)}


def _counter(what: str, unit: str = "images") -> Callable[[int, int], None]:
    return stopping(counter(what, unit), FEATURES_STAY) if jax.process_count() == 1 else counter(what, unit)
