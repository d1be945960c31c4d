"""Number and sizes of clusters: what a run measures of them, and where it is told that they have collapsed."""

import logging

import jax
import numpy as np
from jaxtyping import Int32

from jigclu_jax.errors import UserError, counted
from jigclu_jax.metrics import MetricSpec

_COLLAPSE = 0.9  # fraction of the images in one cluster


def cluster_specs() -> tuple[MetricSpec, ...]:
    """What is measured of the clusters of an epoch."""
    agreement = "How well the clusters agree with those before them; 1: the same, 0: independent."
    return (
        MetricSpec("nmi", "mutual information with the clusters before", chance=0.0, short="NMI", about=agreement),
        MetricSpec("clusters", "clusters with images"),
        MetricSpec("largest_cluster", "images in the largest cluster", "%"),
    )


def measured(labels: Int32[np.ndarray, " n"]) -> dict[str, np.float32]:
    """The specs' numbers but for the agreement."""
    sizes = np.unique(labels, return_counts=True)[1]
    return {"clusters": np.float32(len(sizes)), "largest_cluster": np.float32(sizes.max() / len(labels))}


def warn_of_collapse(epoch: int, largest_cluster: float) -> None:
    """A line where one cluster has almost all images; the run goes on."""
    if largest_cluster > _COLLAPSE and jax.process_index() == 0:
        logging.warning(
            "epoch %d: one cluster holds %.0f %% of the images: the features have collapsed; lower the learning rate, or begin anew with"
            " another seed",
            epoch, 100 * largest_cluster,
        )  # fmt: skip


def enough_images(clusters: int, images: int) -> None:
    """Refuse more clusters than images.

    Raises:
      UserError: naming the field.
    """
    if images < clusters:
        raise UserError(
            f"config.method.clusters={clusters} of {counted(images, 'image')}: choose at most a tenth as many clusters as images"
        )
