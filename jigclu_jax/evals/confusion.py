"""Confusion matrix of predictions, and the accuracy of each class."""

import numpy as np
from jaxtyping import Int, Int64


def confusion_matrix(predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: int) -> Int64[np.ndarray, "c c"]:
    """Number of images of class [row] that were predicted as class [column]."""
    return np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def class_accuracies(confusion: Int64[np.ndarray, "c c"]) -> list[float | None]:
    """Accuracy of each class; None for a class without images."""
    counts = confusion.sum(1)
    return [float(confusion[k, k] / counts[k]) if counts[k] else None for k in range(len(counts))]
