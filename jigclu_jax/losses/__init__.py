"""Losses and the accuracies beside them, as pure functions."""

from jigclu_jax.losses.clustering import clustering_loss
from jigclu_jax.losses.cross_entropy import accuracy, cross_entropy
from jigclu_jax.losses.retrieval import retrieval_accuracy

__all__ = ["accuracy", "clustering_loss", "cross_entropy", "retrieval_accuracy"]
