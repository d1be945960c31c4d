"""A folder of images: `root/split/class/file`, or any tree of images without labels.

Which classes there are is a rule about the folder, not about one split, so that a validation split with some of the
classes gets the same numbers as the training split:
1. beside a folder called `train` or `training`, the class folders of that one, sorted; classes that only the opened
   split has come after them;
2. otherwise the union, sorted, over the folders beside the opened split that share a class with it, or with one that does.
"""

import contextlib
import difflib
import os

import numpy as np
from etils import epath
from jaxtyping import Int32, UInt8

from jigclu_jax.data.sources.containers import what_is_inside, what_is_there
from jigclu_jax.data.sources.decode import EXTENSIONS, brightest_sample, decode_rgb
from jigclu_jax.data.sources.listing import Listing, class_name, folders_in, is_remote, list_images, printable
from jigclu_jax.data.sources.samples import Usual, usual
from jigclu_jax.errors import ImageError, UnknownWhite, UserError, first_few, one_line

_SAMPLE = 64  # images that say together which sample is white
_TRAINING_SPLITS = ("train", "training")
_NO_LABELS = "set split to '' to take every image below it without labels"


class FolderSource:
    """The images below `path/split`, in the order of their POSIX paths.

    path: local or remote (`gs://...`). split: a folder below path whose folders are the classes (images deeper inside a
    class folder belong to it; a split that holds images alone has no labels), or "" for every image below path, without
    labels. Extensions count in any case (`EXTENSIONS`); hidden files and folders, what systems leave beside images, links in a circle
    and everything else are passed over (`passed_over` says what). white: the sample that is white in files of more than 8 bits; 0: as
    the files say, and where they do not, as 64 of them taken together say. Raises UserError where there is no such folder or split, no
    image, or images beside class folders.
    """

    def __init__(self, path: epath.PathLike, split: str = "", white: float = 0.0) -> None:
        if not str(path):
            raise UserError("path='': source 'folder' needs path, the folder that holds the images")
        root = epath.Path(path).expanduser()
        if not root.is_dir():
            raise UserError(f"{root}: {what_is_there(root)}: set path to the folder that holds the images")
        top = _split_folder(root, split)
        self.name = printable(str(top))
        self._top, self._split = os.fspath(top), split
        self._remote = is_remote(top)
        self._white, self._usual = white, Usual()
        listing = list_images(top)
        self._files = sorted(listing.files)
        self.passed_over, self.files_seen = listing.summary(), len(self._files) + listing.passed.total()
        if not self._files:
            raise UserError(f"{self.name}: no images in this folder or below it: {_instead(top, listing)}")
        self.classes: tuple[str, ...] | None = None
        self.labels: Int32[np.ndarray, " n"] | None = None
        if split:
            self._find_labels(top)

    @property
    def ids(self) -> tuple[str, ...]:
        """The paths of the images below the split's folder."""
        return tuple(map(printable, self._files))

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image `index` as RGB, uint8[h, w, 3]; raises ImageError naming the file, UnknownWhite where the set leaves open what is white."""
        data, where = self.encoded(index), self.describe(index)
        try:
            return decode_rgb(data, where, self._white, self._usual)
        except UnknownWhite:
            if self._usual == Usual():
                self._usual = self._look()
        return decode_rgb(data, where, self._white, self._usual)

    def encoded(self, index: int) -> bytes:
        """The file of image `index`; raises ImageError."""
        path = f"{self._top.rstrip('/')}/{self._files[index]}"
        try:
            if self._remote:
                return epath.Path(path).read_bytes()
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except Exception as error:  # remote file systems raise other things than OSError, TensorFlow's its own
            raise ImageError(f"{printable(path)}: cannot be read: {one_line(error)}") from error

    def describe(self, index: int) -> str:
        """The path of image `index`, printable."""
        return printable(f"{self._top.rstrip('/')}/{self._files[index]}")

    @property
    def why_unlabelled(self) -> str:
        """Why there are no labels, and what to do; for messages."""
        if not self._split:
            return "set split to a folder below path whose folders are the classes"
        return "its images lie in the folder itself, without class folders: sort them into one folder a class"

    def _look(self) -> Usual:
        """What a sample of the files says together of its white; UnknownWhite where it says nothing."""
        found = {}
        for index in map(int, np.unique(np.linspace(0, len(self) - 1, _SAMPLE, dtype=np.int64))):
            with contextlib.suppress(ImageError):  # told when it is read
                if (one := brightest_sample(self.encoded(index))) is not None:
                    found[self.describe(index)] = one
        return usual(found, self.name)

    def _find_labels(self, top: epath.Path) -> None:
        loose = [file for file in self._files if "/" not in file]
        if len(loose) == len(self._files):
            return
        if loose:
            raise UserError(
                f"{top}: images lie beside its class folders ({loose[0]}): move them into a class folder, "
                f"or set path to {top} and split to '' to take every image without labels"
            )
        self.classes = _classes_of(top)
        number = {name: label for label, name in enumerate(self.classes)}
        folders = [file.split("/", 1)[0] for file in self._files]
        labels = {folder: number[class_name(folder)] for folder in set(folders)}
        self.labels = np.fromiter((labels[folder] for folder in folders), np.int32, len(folders))


def _split_folder(root: epath.Path, split: str) -> epath.Path:
    """The folder of a split, whichever Unicode form its name has; UserError where there is none."""
    if not split:
        return root
    if split in (".", "..") or not (root / split).is_dir():
        same = [name for name in folders_in(root) if class_name(name) == class_name(split)]
        if not same:
            raise UserError(_unknown_split(root, split))
        return root / same[0]
    return root / split


def _class_names(path: epath.Path) -> list[str]:
    return sorted(set(map(class_name, folders_in(path))))


def _classes_of(top: epath.Path) -> tuple[str, ...]:
    own = set(_class_names(top))
    beside = folders_in(top.parent)
    training = [name for name in (top.name, *beside) if name.lower() in _TRAINING_SPLITS]
    if training:
        known = _class_names(top.parent / training[0])
        return (*known, *sorted(own.difference(known)))
    union = set(own)
    others = [set(_class_names(top.parent / name)) for name in beside if name != top.name]
    while related := [names for names in others if names & union]:
        others = [names for names in others if not names & union]
        union.update(*related)
    return tuple(sorted(union))


def _instead(top: epath.Path, listing: Listing) -> str:
    """What is there instead of images; UserError's text."""
    there = f"it holds {listing.summary()}; " if listing.passed else ""
    inside = what_is_inside(top, listing)
    return f"{there}{f'{inside}; ' if inside else ''}images have the extensions {', '.join(end[1:] for end in EXTENSIONS)}"


def _unknown_split(root: epath.Path, split: str) -> str:
    if "[" in split or "+" in split:
        return f"{root}: no folder {split!r}: a folder has no sub-splits: set split to a folder below it and limit to a number of images"
    if root.name == split:
        return f"{root}: no folder {split!r} in it: set path to {root.parent}, or {_NO_LABELS}"
    folders = [printable(name) for name in folders_in(root)]
    if not folders:
        listing = list_images(root)
        if not listing.files:
            return f"{root}: no images in this folder: {_instead(root, listing)}"
        return f"{root}: no folder {split!r} in it, and no other folder: {_NO_LABELS}"
    near = difflib.get_close_matches(split, folders, n=1)
    guess = f"{near[0]!r}" if near else "one of them"
    shown = first_few(folders, 8)
    return f"{root}: no folder {split!r} in it, it has {shown}: set split to {guess} if its folders are the classes, or {_NO_LABELS}"
