"""The interface of all image sources, and the function that opens them."""

import unicodedata
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64, UInt8
from ml_collections import ConfigDict

from jigclu_jax.config.fields import check_values
from jigclu_jax.config.schema import SOURCE
from jigclu_jax.data.sources.subsets import balanced_indices, listed_indices, subset_indices
from jigclu_jax.errors import UserError, counted, first_few

_WHERE = ("source", "path", "name", "data_dir", "white")  # fields that say where images lie, and how their files are read


@runtime_checkable
class Source(Protocol):
    """Images with random access, and their labels where there are any. `classes` is None exactly where `labels` is.

    To ask whether there are labels, look at `classes`: `labels`, and on Python 3.11 isinstance(x, Source), may read them all.
    """

    name: str

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the labels, in their order."""

    @property
    def labels(self) -> Int32[np.ndarray, " n"] | None:
        """Labels of all images, int32[n]; may be read from storage at the first call."""

    def __len__(self) -> int:
        """Number of images."""

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image `index` as RGB, uint8[h, w, 3], not to be written to; raises ImageError naming the file or record. Safe with threads."""

    def describe(self, index: int) -> str:
        """The file or record of image `index`, for messages."""


@runtime_checkable
class NamesImages(Protocol):
    """A source whose images have names of their own: paths below a folder, file names or keys in records."""

    @property
    def ids(self) -> tuple[str, ...] | None:
        """The names in the source's order, None where there are none; may be read from storage at the first call."""


def where_as(config: ConfigDict, others: ConfigDict) -> ConfigDict:
    """A copy of a source's fields, where they leave empty what says where the images lie: as in `others`."""
    config = config.copy_and_resolve_references()
    for name in _WHERE:
        config[name] = config[name] or others[name]
    return config


def encoded_image(source: Source, index: int) -> bytes | None:
    """The bytes of image `index` as they are stored, None for a source that has none such; raises ImageError."""
    read = getattr(source, "encoded", None)
    return None if read is None else read(index)


def open_source(config: ConfigDict, *, seed: int = 0, classes: Sequence[str] | None = None) -> Source:
    """Opens the source that `config` describes (the fields of `config.source_config()`).

    seed: draws the subset of `config.limit` or `config.fraction` where `config.subset_seed` does not. classes: the class list of
    the training; labels are numbered by it. A subset keeps the whole class list. Raises UserError (one line) for everything
    that is wrong with the source, also for classes that are not in `classes`.
    """
    check_values(config, SOURCE)
    source = _open(config)
    if config.list:
        names = source.ids if isinstance(source, NamesImages) else None
        source = Subset(source, listed_indices(config.list, names, source.name, config.split))
    if classes is not None:
        source = with_classes(source, classes)
    if config.fraction and config.limit:
        raise UserError(f"fraction={config.fraction:g} and limit={config.limit} exclude each other: set one of them to 0")
    if config.fraction:
        if source.classes is None:
            raise UserError(
                f"{source.name}: fraction={config.fraction:g} takes the same number of every class, and there are no labels: use limit"
            )
        assert source.labels is not None
        return Subset(source, balanced_indices(source.labels, config.fraction, subset_seed(config, seed), source.classes))
    if config.limit == 0:
        return source
    if config.limit > len(source):
        raise UserError(
            f"limit={config.limit}: {source.name} has only {counted(len(source), 'image')}: set limit to 0 for all of them, or to fewer"
        )
    return Subset(source, subset_indices(len(source), source.labels, config.limit, subset_seed(config, seed)))


def subset_seed(config: ConfigDict, seed: int) -> int:
    """The seed that draws a subset: the source's own, or that of the run, `seed`."""
    return seed if config.subset_seed < 0 else config.subset_seed


def with_classes(source: Source, classes: Sequence[str]) -> Source:
    """The same images with labels numbered by `classes` (the list of the training), matched by name.

    Labels without names ("0", "1", ...) keep their numbers. Raises UserError for a source without labels and for images
    whose class is not in `classes`, which it names.
    """
    wanted, own = tuple(classes), source.classes
    if own is None:
        raise UserError(f"{source.name}: no labels here: {why_unlabelled(source)}")
    if own == wanted:
        return source
    labels = source.labels
    assert labels is not None
    # the same name in another Unicode form is the same class
    wanted_too, own = (tuple(unicodedata.normalize("NFC", name) for name in names) for names in (wanted, own))
    number = {name: label for label, name in enumerate(wanted_too)}
    if own == tuple(str(label) for label in range(len(own))) and not number.keys() & set(own):
        number = {str(label): label for label in range(len(wanted))}
    unknown = [own[label] for label in np.unique(labels) if own[label] not in number]
    if unknown:
        raise UserError(f"{source.name}: classes that the training does not know: {first_few(unknown)}; it knows {first_few(wanted)}")
    table = np.array([number.get(name, -1) for name in own], np.int32)
    return Relabelled(source, table[labels], wanted)


def why_unlabelled(source: Source) -> str:
    """What to do about a source without labels, and why there are none where that is known; for messages that say so."""
    return getattr(innermost(source), "why_unlabelled", "give folders split/class/file, or a label array")


def innermost(source: Source) -> Source:
    """The source that a subset or a relabelled one is made of."""
    while isinstance(source, Subset | Relabelled):
        source = source.origin
    return source


class Subset:
    """Some images of a source, `origin`: example `i` is example `indices[i]` of it."""

    def __init__(self, source: Source, indices: Int64[np.ndarray, " k"]) -> None:
        self.name = f"{source.name} ({len(indices)} of {len(source)})"
        self.indices = indices
        self.origin = source

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the labels: those of the whole source."""
        return self.origin.classes

    @property
    def labels(self) -> Int32[np.ndarray, " k"] | None:
        """Labels of the chosen images, int32[k]."""
        labels = self.origin.labels
        return None if labels is None else labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image `index` as RGB, uint8[h, w, 3]; raises ImageError."""
        return self.origin.read(int(self.indices[index]))

    def encoded(self, index: int) -> bytes | None:
        """The bytes as they are stored, where there are any."""
        return encoded_image(self.origin, int(self.indices[index]))

    def describe(self, index: int) -> str:
        """The file or record of image `index`."""
        return self.origin.describe(int(self.indices[index]))


class Relabelled:
    """A source, `origin`, with other label numbers and class names."""

    def __init__(self, source: Source, labels: Int32[np.ndarray, " n"], classes: tuple[str, ...]) -> None:
        self.name = source.name
        self.labels: Int32[np.ndarray, " n"] | None = labels
        self.classes: tuple[str, ...] | None = classes
        self.origin = source

    def __len__(self) -> int:
        return len(self.origin)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image `index` as RGB, uint8[h, w, 3]; raises ImageError."""
        return self.origin.read(index)

    def encoded(self, index: int) -> bytes | None:
        """The bytes as they are stored, where there are any."""
        return encoded_image(self.origin, index)

    def describe(self, index: int) -> str:
        """The file or record of image `index`."""
        return self.origin.describe(index)


def _open(config: ConfigDict) -> Source:
    # imported here: what a source needs (Pillow, TFDS, ...) is loaded when it is opened
    if config.source == "folder":
        from jigclu_jax.data.sources.folder import FolderSource

        return FolderSource(config.path, config.split, config.white)
    if config.source == "arrays":
        from jigclu_jax.data.sources.arrays import load_npz

        return load_npz(config.path, config.split)
    if config.source == "prepared":
        from jigclu_jax.data.sources.prepared import PreparedSource

        return PreparedSource(config.path, config.split)
    if config.source == "tfds":
        from jigclu_jax.data.sources.tfds import open_tfds

        return open_tfds(config.name, config.split, config.data_dir, config.white)
    return _open_embedded(config.split)


def _open_embedded(split: str) -> Source:
    from jigclu_jax.data.sources.arrays import ArraySource
    from jigclu_jax.data.sources.toy import load_embedded

    images, labels, classes = load_embedded(split)
    return ArraySource(images, labels, classes, name=f"embedded/{split}")
