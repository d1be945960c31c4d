"""Job `evaluate`: all evaluations that apply to a backbone, in one result.json and one page."""

import dataclasses
import logging
import time
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import Float32
from ml_collections import ConfigDict

from jigclu_jax.config import crop_augment_config
from jigclu_jax.data.augment.law import Law
from jigclu_jax.data.input.views import random_crops
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.data.view import View
from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError, counted
from jigclu_jax.evals.bootstrap import accuracy_interval
from jigclu_jax.evals.confusion import class_accuracies, confusion_matrix
from jigclu_jax.evals.fast_probe import Probed
from jigclu_jax.evals.features import FeatureBank
from jigclu_jax.evals.knn import nearest
from jigclu_jax.evals.spread import alignment, effective_rank, uniformity
from jigclu_jax.jobs.backbones import Backbone, random_backbone
from jigclu_jax.jobs.banks import Banks, Features, Sets
from jigclu_jax.jobs.evaluations import common_fields, knn_fields, of_random_backbone, open_evaluation, probe_fields
from jigclu_jax.jobs.pretext import pretext_fields
from jigclu_jax.jobs.reporting import report, say_result
from jigclu_jax.report.curves import svg
from jigclu_jax.report.matrices import draw_confusion, draw_map, principal_axes
from jigclu_jax.report.pictures import neighbours_sheet
from jigclu_jax.report.workdir_files import save_picture
from jigclu_jax.run_scope import run_scope
from jigclu_jax.train.counting import announce
from jigclu_jax.train.workdir import open_workdir, write_result

_RANK_ROWS = 8192  # features whose singular values are computed
_AVERAGED = 8192  # images whose crops' features are in memory at once


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Evaluate the backbone of `config.checkpoint` or `config.weights`; leaves config.json, result.json and report.html."""
    begun = time.monotonic()
    with open_evaluation(config, workdir) as (config, backbone, sets, claim):
        fields, pictures = _evaluated(config, workdir, backbone, sets)
        claim.check()
        if distributed.is_main():
            root = open_workdir(workdir, config)
            write_result(root, fields | {"seconds": time.monotonic() - begun})
            for name, picture in pictures.items():
                save_picture(root, name, picture)
            report(root)
        say_result(fields)


def _evaluated(config: ConfigDict, workdir: epath.PathLike, backbone: Backbone, sets: Sets) -> tuple[dict[str, Any], dict[str, str]]:
    """The fields of the result, and the pictures of the page by name."""
    if len(sets.test) < 2:
        raise UserError("config.eval_data holds one image: how features are spread needs two or more")
    features = Features(config, workdir)
    banks = features.of_sets(backbone, sets)
    fields = common_fields(config, backbone, banks, sets)
    probe, probed = probe_fields(config, banks, sets)
    fields |= probe | knn_fields(config, banks, sets)[0] | _spread_fields(config, features, backbone, sets, banks)
    if config.random_init:
        other = random_backbone(backbone.model, config.seed)
        control = features.of_sets(other, sets)
        fields |= of_random_backbone(probe_fields(config, control, sets)[0] | knn_fields(config, control, sets)[0])
        fields |= {f"{name}_random_init": value for name, value in _spread_fields(config, features, other, sets, control).items()}
    if config.crops:
        fields["crops"] = _averaged_fields(config, features, backbone, sets, banks)
    pretext, drawing = _pretext(config, backbone, sets, features)
    fields |= pretext
    announce("drawing the page")
    confusion, classes = _classes(config, probed, banks, sets)
    fields |= {"confusion": confusion.tolist(), "class_top1": {name: fraction for name, _, fraction, _, _ in classes}}
    fields |= {"class_top1_interval": {name: [low, high] for name, _, _, low, high in classes}}
    pictures = {"confusion": svg(draw_confusion(confusion, sets.classes))}
    pictures |= {"neighbours": _neighbours(config, banks, sets), "map": _map(config, banks, sets)}
    return fields, pictures | ({"pretext": drawing} if drawing else {})


def _spread_fields(config: ConfigDict, features: Features, backbone: Backbone, sets: Sets, banks: Banks) -> dict[str, float]:
    """Effective rank and uniformity of the evaluation images' features, alignment of those of two crops of an image."""
    rows = _some(len(banks.test), _RANK_ROWS, config.seed)
    chosen = banks.test.indices[_some(len(banks.test), config.reading.views, config.seed)]
    views = _of_crops(config, features, backbone, sets.test, chosen, 2)
    return {
        "rank_features": effective_rank(banks.test.features[rows]),
        "uniformity_features": uniformity(banks.test.features, config.seed),
        "alignment_features": alignment(views[0], views[1]),
    }


def _of_crops(
    config: ConfigDict, features: Features, backbone: Backbone, source: Source, indices: np.ndarray, count: int
) -> Float32[np.ndarray, "c n d"]:
    """Features of `count` random crops of each of these images."""
    announce(f"features of {counted(count, 'crop')} of {counted(len(indices), 'image')}")
    crop = View("crop", config.eval_data.crop, Law.of(crop_augment_config()))
    part = (jax.process_index(), jax.process_count())
    batches = random_crops(source, indices, crop, count=count, seed=config.seed, batch_size=config.eval_batch_size, part=part)
    return features.of_batches(backbone, batches).features.reshape(count, len(indices), -1)


def _averaged_fields(config: ConfigDict, features: Features, backbone: Backbone, sets: Sets, banks: Banks) -> dict[str, Any]:
    """Probe and neighbours on features that are means over `config.crops` random crops, apart from those of one view."""

    def averaged(bank: FeatureBank, source: Source) -> FeatureBank:
        blocks = np.array_split(bank.indices, -(-len(bank) // _AVERAGED))
        means = [_of_crops(config, features, backbone, source, block, config.crops).mean(axis=0) for block in blocks]
        return dataclasses.replace(bank, features=np.concatenate(means))

    both = Banks(averaged(banks.train, sets.train), averaged(banks.test, sets.test), banks.oddities)
    return {"count": config.crops} | probe_fields(config, both, sets)[0] | knn_fields(config, both, sets)[0]


def _classes(config: ConfigDict, probed: Probed, banks: Banks, sets: Sets) -> tuple[np.ndarray, list[tuple[str, int, float, float, float]]]:
    """The chosen head's confusion matrix, and (name, images, accuracy, interval) of every class that has images."""
    predicted, labels = probed.scores.argmax(1), banks.test.labels
    confusion = confusion_matrix(predicted, labels, len(sets.classes))
    rows = []
    for label, fraction in enumerate(class_accuracies(confusion)):
        if fraction is not None:
            own = predicted[labels == label] == label
            rows.append((sets.classes[label], len(own), fraction, *accuracy_interval(int(own.sum()), len(own), config.seed)))
    return confusion, rows


def _pretext(config: ConfigDict, backbone: Backbone, sets: Sets, features: Features) -> tuple[dict[str, Any], str]:
    """Fields and drawing of the run's own classifications on the evaluation images; nothing where it has none."""
    if not backbone.run:
        return {}, ""
    announce("the pretraining's own heads on the evaluation images")
    try:
        fields, confusions = pretext_fields(config, backbone, sets.test, features.mesh)
    except UserError as error:  # a set too small for a batch, images smaller than a patch
        logging.warning("the pretraining's own heads are left out: %s", error)
        return {}, ""
    for name, confusion in confusions.items():  # the first is drawn
        return fields, svg(draw_confusion(confusion, [f"{name} {answer}" for answer in range(len(confusion))]))
    return fields, ""


def _neighbours(config: ConfigDict, banks: Banks, sets: Sets) -> str:
    """Evaluation images of as many classes as can be, with their nearest training images."""
    labels, reading = banks.test.labels, config.reading
    order = np.random.default_rng([config.seed, 0x6E6E]).permutation(len(labels))
    # the first image of every class, then the second ones, ...
    turn = np.array([np.sum(labels[order[:place]] == labels[order[place]]) for place in range(min(len(order), 2000))])
    chosen = order[: len(turn)][np.argsort(turn, kind="stable")][: reading.queries]
    _, found = nearest(banks.test.features[chosen], banks.train.features, min(reading.neighbours, len(banks.train)))
    images = [[sets.train.read(int(banks.train.indices[row])) for row in rows] for rows in found]
    right = [[bool(banks.train.labels[row] == labels[query]) for row in rows] for query, rows in zip(chosen, found, strict=True)]
    names = [
        [sets.classes[label] for label in (labels[query], *banks.train.labels[rows])] for query, rows in zip(chosen, found, strict=True)
    ]
    return neighbours_sheet([sets.test.read(int(banks.test.indices[query])) for query in chosen], images, right, names).svg


def _map(config: ConfigDict, banks: Banks, sets: Sets) -> str:
    rows = _some(len(banks.test), config.reading.map_points, config.seed)
    points, fractions = principal_axes(banks.test.features[rows])
    along = [f"principal component {number + 1} ({100 * fraction:.0f} % of the variance)" for number, fraction in enumerate(fractions)]
    return svg(draw_map(points, banks.test.labels[rows], sets.classes, along=along))


def _some(count: int, most: int, seed: int) -> np.ndarray:
    """At most that many of `count` rows, drawn with the seed, in order."""
    return np.sort(np.random.default_rng([seed, 0x736F6D65]).permutation(count)[:most])
