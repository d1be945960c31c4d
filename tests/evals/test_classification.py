"""Accuracies against counting by hand; padding and broken scores never help."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.evals.classification import compile_counts, evaluate


def run(logits: np.ndarray, labels: np.ndarray, batch_size: int) -> dict[str, float]:
    """Feeds scores through the evaluation: the "image" of an example is its number."""

    def predict(params: Any, stats: Any, extra: Any, image: jax.Array) -> jax.Array:
        return params[image[:, 0, 0, 0].astype(jnp.int32)]

    def batches() -> Iterator[dict[str, np.ndarray]]:
        for begin in range(0, len(labels), batch_size):
            rows = np.arange(begin, begin + batch_size)
            inside = rows < len(labels)
            rows = np.where(inside, rows, 0)
            yield {"image": rows.astype(np.uint8)[:, None, None, None], "label": labels[rows].astype(np.int32), "mask": inside}

    mesh = create_mesh()
    return evaluate(compile_counts(predict, mesh), jnp.asarray(logits), {}, {}, batches(), mesh)


def test_top1_and_top5_are_what_sorting_gives() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(103, 9)).astype(np.float32), rng.integers(0, 9, 103)
    order = np.argsort(-logits, axis=1)
    found = run(logits, labels, 8)  # 103 is no multiple of 8: the last batch is padded
    assert found["examples"] == 103
    assert found["top1"] == (order[:, 0] == labels).mean()
    assert found["top5"] == (order[:, :5] == labels[:, None]).any(1).mean()


def test_fewer_classes_than_five() -> None:
    logits = np.eye(3, dtype=np.float32)
    assert run(logits, np.array([1, 2, 0]), 4) == {"top1": 0.0, "top5": 1.0, "examples": 3}


def test_a_constant_score_earns_nothing() -> None:
    assert run(np.zeros((6, 8), np.float32), np.arange(6), 3)["top1"] == 0.0


def test_nan_scores_earn_nothing() -> None:
    assert run(np.full((6, 8), np.nan, np.float32), np.arange(6), 3) == {"top1": 0.0, "top5": 0.0, "examples": 6}


def test_unlabelled_examples_do_not_count() -> None:
    logits = np.eye(4, dtype=np.float32)
    assert run(logits, np.array([0, 1, -1, 3]), 4) == {"top1": 1.0, "top5": 1.0, "examples": 3}
