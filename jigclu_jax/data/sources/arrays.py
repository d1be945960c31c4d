"""Source of images held in an array, in memory or in an `.npz` file."""

import re
from collections.abc import Sequence

import numpy as np
from etils import epath
from jaxtyping import Int32, UInt8
from numpy.lib.npyio import NpzFile

from jigclu_jax.data.sources.decode import gray_to_rgb
from jigclu_jax.data.sources.npz_file import read_array
from jigclu_jax.errors import UserError, counted, one_line

_CLASSES = 100_000  # labels up to there need no reason
_HOLDS = "an array file holds image (uint8[n, h, w, 3]) and, optionally, label (int[n]) and classes (strings)"
# image and label alone or behind a split, images and labels behind one (MedMNIST: train_images), x and y before one (Keras: x_train)
_KEY = re.compile(r"(?P<image>image|(?P<a>.+)_images?|x_(?P<b>.+))|label|(?P<c>.+)_labels?|y_(?P<d>.+)")


class ArraySource:
    """Images of one size in memory, with labels or without.

    images: uint8[n, h, w, 3], or gray as [n, h, w] or [n, h, w, 1]; not copied. labels: integers [n], from 0. classes: the
    names of the labels; where labels have no names, they are called "0", "1", ... Raises UserError for anything else.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray | Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        name: str = "arrays",
    ) -> None:
        self.name = name
        self._images = _checked_images(np.asarray(images), name)
        self.labels: Int32[np.ndarray, " n"] | None = None
        self.classes: tuple[str, ...] | None = None
        if labels is not None:
            self.labels = _checked_labels(np.asarray(labels), len(self._images), name)
            self.classes = _checked_classes(classes, int(self.labels.max()), name)
        elif classes is not None:
            raise UserError(f"{name}: there are classes but no labels: give label, int[{len(self._images)}], as well")

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image `index` as RGB, uint8[h, w, 3]; do not write into it."""
        image = self._images[index]
        return image if image.ndim == 3 and image.shape[2] == 3 else gray_to_rgb(image.reshape(image.shape[:2]))

    def describe(self, index: int) -> str:
        """The name of image `index` in messages."""
        return f"{self.name}[{index}]"


def load_npz(path: epath.PathLike, split: str = "") -> ArraySource:
    """Opens an `.npz` file as a source; the whole split is read into memory.

    Keys: `image`, optional `label`, optional `classes`; a file with several splits has `train_image`, `train_label`,
    `val_image`, ... and one `classes` for all of them. Keys without a prefix are split "" or "train". MedMNIST's `train_images` and
    `train_labels` and Keras's `x_train` and `y_train` do as well; labels may be [n, 1]. Raises UserError for a missing file, a file that
    is no `.npz`, missing keys, an unknown split, and wrong dtypes or shapes.
    """
    if not str(path):
        raise UserError("path='': source 'arrays' needs path, an .npz file")
    path = epath.Path(path).expanduser()
    if path.is_dir():
        raise UserError(f"{path}: a folder, and source 'arrays' needs an .npz file: set source to 'folder' for a folder of images")
    if not path.exists():
        raise UserError(f"{path}: no such file: set path to an .npz file")
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise UserError(f"{path}: a single array, not an .npz file: save it with numpy.savez(path, image=...)")
            names = _keys_of(archive.files, split, str(path))
            arrays = {key: read_array(archive, name) for key, name in names.items()}
            if "classes" in archive:
                arrays["classes"] = read_array(archive, "classes")
    except UserError:
        raise
    except Exception as error:  # a damaged archive: ValueError, BadZipFile, zlib.error, ...; remote file systems: anything
        raise UserError(f"{path}: cannot be read as an .npz file: {one_line(error)}") from error
    classes = arrays.get("classes")
    if classes is not None and (classes.ndim != 1 or classes.dtype.kind not in "US"):
        raise UserError(f"{path}: classes must be a list of strings, it is {classes.dtype.name}{list(classes.shape)}")
    titles = None if classes is None else [name.decode() if isinstance(name, bytes) else str(name) for name in classes]
    if "label" not in arrays:
        titles = None  # a file may name classes for its labelled splits and have one without labels
    return ArraySource(arrays["image"], arrays.get("label"), titles, name=f"{path}:{names['image']}")


def _keys_of(keys: Sequence[str], split: str, where: str) -> dict[str, str]:
    """The file's own keys of "image" and, where there are any, "label" of a split; UserError where there are no such images."""
    splits: dict[str, dict[str, str]] = {}  # "" for keys without a prefix
    for key in keys:
        if found := _KEY.fullmatch(key):
            own = next((found[name] for name in "abcd" if found[name]), "")
            splits.setdefault(own, {})["image" if found["image"] else "label"] = key
    splits = {name: found for name, found in splits.items() if "image" in found}
    others = {"train": "", "": next(iter(splits)) if len(splits) == 1 else ""}
    for name in (split, others.get(split, split)):
        if name in splits:
            return splits[name]
    if not splits:
        raise UserError(f"{where}: no key 'image': the file holds {', '.join(sorted(keys)) or 'nothing'}; {_HOLDS}")
    raise UserError(f"{where}: no split {split!r}: set split to one of {', '.join(map(repr, sorted(splits)))}")


def _checked_images(images: np.ndarray, where: str) -> np.ndarray:
    shape = f"{images.dtype.name}{list(images.shape)}"
    if images.dtype != np.uint8:
        raise UserError(f"{where}: images must be uint8 (0 to 255), they are {shape}")
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3):
        raise UserError(f"{where}: images have their channels first, {shape}: save them as numpy.transpose(images, (0, 2, 3, 1))")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise UserError(f"{where}: images must be uint8[n, h, w, 3] or gray uint8[n, h, w], they are {shape}")
    if images.size == 0:
        raise UserError(f"{where}: there are no images: {shape}")
    return images


def _checked_labels(labels: np.ndarray, count: int, where: str) -> Int32[np.ndarray, " n"]:
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    elif labels.ndim == 2 and labels.shape[0] == count:
        raise UserError(
            f"{where}: labels have {labels.shape[1]} columns, several classes an image or one column a class: one class an image is "
            "needed (of a one-hot table: labels.argmax(1)); pretraining needs none: leave them out"
        )
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise UserError(f"{where}: labels must be integers [{count}], one for each image, they are {labels.dtype.name}{list(labels.shape)}")
    # names of classes, matrices of them: a number that is no class, an id, say, must not fill the memory
    if labels.min() < 0 or labels.max() >= max(_CLASSES, 10 * count):
        raise UserError(
            f"{where}: labels must number the classes from 0, but those of {counted(count, 'image')} run"
            f" from {labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int32)


def _checked_classes(classes: Sequence[str] | None, largest: int, where: str) -> tuple[str, ...]:
    if classes is None:
        return tuple(str(number) for number in range(largest + 1))
    names = tuple(classes)
    if largest >= len(names):
        raise UserError(f"{where}: label {largest} has no name: the classes are numbered from 0 to {len(names) - 1}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{where}: class {twice!r} is named twice")
    return names
