"""Which class is taken for which, and how well each one is told."""

import numpy as np
from jaxtyping import Int, Int64


def confusion_matrix(predicted: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: int) -> Int64[np.ndarray, "c c"]:
    """Number of images of class [row] that were taken for class [column]."""
    return np.bincount(labels.astype(np.int64) * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def class_accuracies(confusion: Int64[np.ndarray, "c c"]) -> list[float | None]:
    """Share of each class's images that were told right; None for a class without images."""
    counts = confusion.sum(1)
    return [float(confusion[k, k] / counts[k]) if counts[k] else None for k in range(len(counts))]


__all__ = ["class_accuracies", "confusion_matrix"]
