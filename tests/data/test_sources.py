"""open_source: dispatch, the subset of `limit`, and the class list of the training."""

import itertools
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from ml_collections import ConfigDict
from named_errors import raises_naming

from jigclu_jax.config import source_config
from jigclu_jax.data.sources.arrays import ArraySource
from jigclu_jax.data.sources.opening import Source, open_source, with_classes
from jigclu_jax.data.sources.subsets import subset_indices
from jigclu_jax.errors import UserError


def config(**fields: object) -> ConfigDict:
    result = source_config()
    result.update(fields)
    return result


@pytest.fixture
def labelled(tmp_path: pathlib.Path) -> ConfigDict:
    """240 images in 16 classes."""
    images = np.random.default_rng(0).integers(0, 256, (240, 3, 4, 3), dtype=np.uint8)
    classes = np.array([f"class {letter}" for letter in "abcdefghijklmnop"])
    np.savez(tmp_path / "set.npz", image=images, label=np.arange(240) % 16, classes=classes)
    return config(source="arrays", path=str(tmp_path / "set.npz"))


def limited(fields: ConfigDict, limit: int) -> ConfigDict:
    """The same with another limit."""
    result = fields.copy_and_resolve_references()
    result.limit = limit
    return result


def problem(fields: ConfigDict, **kwargs: object) -> str:
    """The text of the error; checks that it is one line."""
    with pytest.raises(UserError) as caught:
        open_source(fields, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def source_of(labels: list[int], classes: tuple[str, ...] | None = None) -> ArraySource:
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1).repeat(2, 1).repeat(2, 2)
    return ArraySource(images, labels, classes, name="set")


def test_embedded() -> None:
    source = open_source(config(source="embedded", split="validation"))
    assert isinstance(source, Source)
    assert source.labels is not None and source.classes is not None
    assert len(source.labels) == len(source) and source.labels.max() == len(source.classes) - 1
    image = source.read(0)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    text = problem(config(source="embedded", split="val"))
    assert "'val'" in text and "validation" in text


def test_unknown_source_names_the_nearest() -> None:
    text = problem(config(source="foldr"))
    assert "'foldr'" in text and "did you mean 'folder'?" in text and "tfds" in text
    assert "did you mean" not in problem(config(source="qqqq"))


def test_limits_out_of_range(labelled: ConfigDict) -> None:
    text = problem(limited(labelled, 241))
    assert "241" in text and "240" in text
    assert "limit=-1" in problem(limited(labelled, -1))
    assert len(open_source(limited(labelled, 240))) == 240


def test_limit_draws_a_repeatable_subset(labelled: ConfigDict) -> None:
    whole = open_source(labelled)
    part, again = (open_source(limited(labelled, 40), seed=3) for _ in range(2))
    other = open_source(limited(labelled, 40), seed=4)
    assert len(part) == 40 and part.classes == whole.classes
    chosen = [part.describe(index) for index in range(40)]
    assert chosen == [again.describe(index) for index in range(40)]
    assert chosen != [other.describe(index) for index in range(40)]
    positions = {whole.describe(index): index for index in range(len(whole))}
    indices = [positions[name] for name in chosen]
    assert indices == sorted(set(indices))
    assert part.labels is not None and whole.labels is not None
    np.testing.assert_array_equal(part.labels, whole.labels[indices])
    np.testing.assert_array_equal(part.read(7), whole.read(indices[7]))


def test_a_subset_with_a_seed_of_its_own_is_the_same_for_every_run(labelled: ConfigDict) -> None:
    def drawn(seed: int, subset_seed: int, **part: float) -> list[str]:
        fields = limited(labelled, 0)
        fields.update({"subset_seed": subset_seed, **part})
        source = open_source(fields, seed=seed)
        return [source.describe(index) for index in range(len(source))]

    for part in ({"limit": 40}, {"fraction": 0.25}):
        assert drawn(3, 7, **part) == drawn(4, 7, **part) == drawn(7, -1, **part)
        assert drawn(3, -1, **part) != drawn(4, -1, **part)
    with raises_naming("subset_seed=-2"):
        drawn(0, -2, limit=4)


def test_subset_is_balanced_as_far_as_the_classes_reach() -> None:
    labels = np.array([0] * 100 + [1] * 3 + [2] * 50 + [4] * 9, np.int32)
    for limit, expected in [(8, [2, 2, 2, 0, 2]), (12, [3, 3, 3, 0, 3]), (33, [10, 3, 11, 0, 9]), (162, [100, 3, 50, 0, 9])]:
        indices = subset_indices(len(labels), labels, limit, seed=0)
        assert len(set(indices.tolist())) == limit
        counts = np.bincount(labels[indices], minlength=5)
        assert sorted(counts) == sorted(expected)
        assert (np.minimum(expected, 3) <= counts).all()


def test_larger_subsets_contain_smaller_ones() -> None:
    labels = (np.arange(90) % 7).astype(np.int32)
    for of in (labels, None):
        chain = [set(subset_indices(90, of, limit, seed=5).tolist()) for limit in (10, 11, 40, 90)]
        assert all(small < large for small, large in itertools.pairwise(chain))


def test_subset_without_labels_is_uniform() -> None:
    # 400 seeds, 10 of 40: every example comes up 100 times on average, with a standard deviation of 8.7
    hits = np.zeros(40)
    for seed in range(400):
        hits[subset_indices(40, None, 10, seed)] += 1
    assert hits.sum() == 4000
    assert hits.min() > 60 and hits.max() < 140


def test_the_class_list_of_the_training_numbers_the_labels() -> None:
    source = with_classes(source_of([0, 1, 1], ("cat", "dog")), ("bird", "dog", "cat"))
    assert source.classes == ("bird", "dog", "cat")
    assert source.labels is not None and source.labels.dtype == np.int32 and source.labels.tolist() == [2, 1, 1]
    assert source.read(2)[0, 0, 0] == 2 and source.describe(2) == "set[2]" and len(source) == 3


def test_the_same_class_list_changes_nothing() -> None:
    source = source_of([0, 1], ("cat", "dog"))
    assert with_classes(source, ["cat", "dog"]) is source


def test_classes_without_images_may_be_unknown() -> None:
    source = with_classes(source_of([0, 2], ("cat", "ghost", "dog")), ("cat", "dog"))
    assert source.labels is not None and source.labels.tolist() == [0, 1]


def test_unknown_classes_are_named() -> None:
    with raises_naming("set", "dog", "cat, cow"):
        with_classes(source_of([0, 1], ("cat", "dog")), ("cat", "cow"))


def test_labels_without_names_keep_their_numbers() -> None:
    source = with_classes(source_of([0, 2, 1]), ("cat", "cow", "dog", "emu"))
    assert source.labels is not None and source.labels.tolist() == [0, 2, 1] and source.classes == ("cat", "cow", "dog", "emu")
    assert with_classes(source_of([0, 2, 1]), [str(number) for number in range(10)]).classes == tuple("0123456789")
    with raises_naming("2"):
        with_classes(source_of([0, 2, 1]), ("cat", "cow"))


def test_a_class_list_needs_labels() -> None:
    with raises_naming("set", "labels"):
        with_classes(ArraySource(np.zeros((1, 2, 2), np.uint8), name="set"), ("cat",))


def test_classes_and_limit_together(labelled: ConfigDict) -> None:
    plain = open_source(limited(labelled, 32))
    assert plain.classes is not None and plain.labels is not None
    turned = open_source(limited(labelled, 32), classes=plain.classes[::-1])
    assert turned.labels is not None
    assert np.bincount(turned.labels).tolist() == [2] * 16


def test_no_tensorflow_and_no_jax_for_what_needs_none() -> None:
    program = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("jax", "jaxlib", "tensorflow", "tensorflow_datasets"):
            raise ImportError(f"{name} is not to be imported")
sys.meta_path.insert(0, Blocker())
import jigclu_jax.data.sources.tfds, jigclu_jax.data.sources.tfrecord_index, jigclu_jax.data.sources.folder
from jigclu_jax.config import source_config
from jigclu_jax.data.sources.opening import open_source
config = source_config()
config.update({"source": "embedded", "split": "validation"})
print(open_source(config).read(0).shape)
config.update({"source": "tfds", "name": "cifar10"})
try:
    open_source(config)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.endswith(", 3)")
    assert second.startswith("UserError source 'tfds' needs a package that is not installed") and "pip install" in second
