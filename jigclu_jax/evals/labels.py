"""Checks the labels of an evaluation, and draws a held-out part of every class."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Int32

from jigclu_jax.errors import UserError, counted, first_few

_SHOWN = 5


def check_labels(train: Int32[np.ndarray, " n"], test: Int32[np.ndarray, " k"], classes: Sequence[str]) -> list[str]:
    """Refuse labels that no classifier can be judged by; returns one line for each thing that is odd and yet can be worked with.

    Labels are numbers of `classes`, -1 for none. A class without training images can never be told: its test images count as wrong.

    Raises:
      UserError: no labels, fewer than two classes in training, or a label without a class.
    """
    for name, labels in (("training", train), ("evaluation", test)):
        if not len(labels) or labels.max() < 0:
            raise UserError(f"the {name} images have no labels: give folders split/class/file, or a label array")
        if (labels < 0).any():
            raise UserError(f"{int((labels < 0).sum())} of the {len(labels)} {name} images have no label: leave them out of the data")
        if labels.max() >= len(classes):
            more = f"label {labels.max()}, but training has {counted(len(classes), 'class')}, numbered from 0"
            raise UserError(f"the {name} images have {more}: evaluate on classes that training has")
    present = np.unique(train)
    if len(present) < 2:
        raise UserError(f"all training images are of one class ({classes[present[0]]!r}): a classifier needs at least two")
    odd = []
    missing = np.setdiff1d(np.arange(len(classes)), present)
    asked = np.isin(test, missing)
    if asked.any():
        names = _names(classes, np.unique(test[asked]))
        odd.append(
            f"{int(asked.sum())} of {len(test)} evaluation images are of classes without a training image, and count as wrong: {names}"
        )
    unasked = np.setdiff1d(present, np.unique(test))
    if len(unasked):
        odd.append(f"no evaluation image is of {_names(classes, unasked)}")
    unused = np.setdiff1d(missing, test)
    if len(unused):
        odd.append(
            f"{len(unused)} of {counted(len(classes), 'class')} have no image at all, the labels have gaps: {_names(classes, unused)}"
        )
    return odd


def held_out_mask(labels: Int[np.ndarray, " n"], fraction: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Marks a `fraction` of the images of every class, drawn with `seed`: rounded, at least one where a class has two or more.

    Raises:
      UserError: the set is so small that one of the two parts is empty.
    """
    generator = np.random.default_rng([seed, 0x68656C64])
    mask = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        count = min(max(round(fraction * len(own)), 1), len(own) - 1)
        mask[generator.permutation(own)[:count]] = True
    if not mask.any() or mask.all():
        raise UserError(
            f"{len(labels)} training images are too few to hold out {fraction:g} of each class: give two images a class at least"
        )
    return mask


def _names(classes: Sequence[str], numbers: np.ndarray) -> str:
    return first_few([classes[number] for number in numbers], _SHOWN)
