"""Labels that cannot carry an evaluation, parts of a set, ridge regression, confusion and intervals."""

import numpy as np
import pytest
from named_errors import raises_naming
from sklearn.linear_model import Ridge
from sklearn.metrics import confusion_matrix as peer_confusion

from jigclu_jax.errors import UserError
from jigclu_jax.evals.bootstrap import accuracy_interval
from jigclu_jax.evals.confusion import class_accuracies, confusion_matrix
from jigclu_jax.evals.labels import check_labels, held_out_mask
from jigclu_jax.evals.ridge import fit_ridge

CLASSES = ("ant", "bee", "cat", "dog")


def numbers(*labels: int) -> np.ndarray:
    return np.array(labels, np.int32)


@pytest.mark.parametrize(
    ("train", "test", "line"),
    [
        (numbers(), numbers(0, 1), "the training images have no labels"),
        (numbers(-1, -1), numbers(0, 1), "the training images have no labels"),
        (numbers(0, 1), numbers(), "the evaluation images have no labels"),
        (numbers(0, 1, -1), numbers(0, 1), "1 of the 3 training images have no label"),
        (numbers(0, 1), numbers(0, 4), "the evaluation images have label 4, but training has 4 classes"),
        (numbers(2, 2, 2), numbers(2, 1), "all training images are of one class ('cat'): a classifier needs at least two"),
    ],
)
def test_labels_that_cannot_work_are_told_in_one_line(train: np.ndarray, test: np.ndarray, line: str) -> None:
    with pytest.raises(UserError) as raised:
        check_labels(train, test, CLASSES)
    assert str(raised.value).startswith(line) and "\n" not in str(raised.value)


def test_what_is_odd_and_can_be_worked_with() -> None:
    assert check_labels(numbers(0, 1, 2, 3), numbers(3, 2, 1, 0), CLASSES) == []
    gap = check_labels(numbers(0, 0, 3), numbers(0, 3, 1, 1), CLASSES)
    assert gap == [
        "2 of 4 evaluation images are of classes without a training image, and count as wrong: bee",
        "1 of 4 classes have no image at all, the labels have gaps: cat",
    ]
    assert check_labels(numbers(0, 1, 2, 3), numbers(0, 0, 2), CLASSES) == ["no evaluation image is of bee, dog"]


def test_the_held_out_part_is_balanced_and_seeded() -> None:
    labels = np.repeat(np.arange(4), (40, 20, 4, 1))
    mask = held_out_mask(labels, 0.1, 0)
    assert np.bincount(labels[mask], minlength=4).tolist() == [4, 2, 1, 0], "a class of one image stays in training"
    assert np.array_equal(mask, held_out_mask(labels, 0.1, 0)) and not np.array_equal(mask, held_out_mask(labels, 0.1, 1))


def test_a_set_too_small_to_hold_out() -> None:
    with raises_naming("4 training images", "0.1"):
        held_out_mask(np.arange(4), 0.1, 0)


@pytest.mark.parametrize("penalty", [1e-4, 1e-2, 1.0])
def test_ridge_is_scikit_learns(penalty: float) -> None:
    generator = np.random.default_rng(0)
    x, y = (3 + generator.normal(size=(70, 9))).astype(np.float32), generator.integers(0, 3, 70)
    weights, bias = fit_ridge(x, y, 3, (10.0, penalty))[1]
    peer = Ridge(alpha=penalty * len(x)).fit(x.astype(np.float64), np.eye(3)[y])
    np.testing.assert_allclose(weights, peer.coef_.T, atol=1e-5)
    np.testing.assert_allclose(bias, peer.intercept_, atol=1e-5)


def test_confusion_is_scikit_learns_and_an_absent_class_has_no_accuracy() -> None:
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 4, 200), generator.integers(0, 5, 200)
    found = confusion_matrix(predicted, labels, 5)
    assert np.array_equal(found, peer_confusion(labels, predicted, labels=range(5)))
    shares = class_accuracies(found)
    assert shares[4] is None and shares[1] == pytest.approx((predicted[labels == 1] == 1).mean())


def test_the_interval_is_that_of_drawing_images_again() -> None:
    right = np.random.default_rng(0).random(400) < 0.7
    generator = np.random.default_rng(1)
    means = [right[generator.integers(0, 400, 400)].mean() for _ in range(4000)]
    correct = int(right.sum())
    np.testing.assert_allclose(accuracy_interval(correct, 400, 5), np.quantile(means, [0.025, 0.975]), atol=0.006)
    assert accuracy_interval(correct, 400, 5) == accuracy_interval(correct, 400, 5)
    assert accuracy_interval(50, 50, 0) == (1.0, 1.0) and accuracy_interval(0, 0, 0) == (0.0, 1.0)
