"""A folder of images: `root/split/class/file`, or any tree of images without labels.

Which classes there are is a rule about the folder, not about one split, so that a validation split with some of the
classes gets the same numbers as the training split:
1. beside a folder called `train` or `training`, the class folders of that one, sorted; classes that only the opened
   split has come after them;
2. otherwise the union, sorted, over the folders beside the opened split that share a class with it, or with one that does.
"""

import difflib
import os
from collections.abc import Iterator

import numpy as np
from etils import epath
from jaxtyping import Int32, UInt8

from jigclu_jax.data.sources.decode import decode_rgb
from jigclu_jax.errors import ImageError, UserError, first_few, one_line

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm")
_TRAINING_SPLITS = ("train", "training")
_NO_LABELS = "set split to '' to take every image below it without labels"


class FolderSource:
    """The images below `path/split`, in the order of their POSIX paths.

    path: local or remote (`gs://...`). split: a folder below path whose folders are the classes (images deeper inside a
    class folder belong to it; a split that holds images alone has no labels), or "" for every image below path, without
    labels. Extensions count in any case (`EXTENSIONS`); hidden files and folders and everything else are passed over.
    Raises UserError where there is no such folder or split, no image, or images beside class folders.
    """

    def __init__(self, path: epath.PathLike, split: str = "") -> None:
        if not str(path):
            raise UserError("path='': source 'folder' needs path, the folder that holds the images")
        root = epath.Path(path).expanduser()
        if not root.is_dir():
            what = "a file, not a folder" if root.exists() else "no such folder"
            raise UserError(f"{root}: {what}: set path to the folder that holds the images")
        top = root / split if split else root
        if not top.is_dir() or split in (".", ".."):
            raise UserError(_unknown_split(root, split))
        self.name = str(top)
        self._top = os.fspath(top)
        self._remote = is_remote(top)
        self._files = sorted(_list_remote(top) if self._remote else _list_local(self._top))
        if not self._files:
            raise UserError(f"{top}: no images in this folder or below it (looked for {', '.join(e[1:] for e in EXTENSIONS)})")
        self.classes: tuple[str, ...] | None = None
        self.labels: Int32[np.ndarray, " n"] | None = None
        if split:
            self._find_labels(top)

    @property
    def ids(self) -> tuple[str, ...]:
        """The paths of the images below the split's folder."""
        return tuple(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """Image `index` as RGB, uint8[h, w, 3]; raises ImageError naming the file."""
        return decode_rgb(self.encoded(index), self.describe(index))

    def encoded(self, index: int) -> bytes:
        """The file of image `index`; raises ImageError."""
        where = self.describe(index)
        try:
            if self._remote:
                return epath.Path(where).read_bytes()
            with open(where, "rb", buffering=0) as file:
                return file.read()
        except Exception as error:  # remote file systems raise other things than OSError, TensorFlow's its own
            raise ImageError(f"{where}: cannot be read: {one_line(error)}") from error

    def describe(self, index: int) -> str:
        """The path of image `index`."""
        return f"{self._top.rstrip('/')}/{self._files[index]}"

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
        self.labels = np.fromiter((number[file.split("/", 1)[0]] for file in self._files), np.int32, len(self._files))


def is_remote(path: epath.Path) -> bool:
    """Whether `path` is on a remote file system (`gs://`, `s3://`, ...), where `os` functions do not reach."""
    return "://" in os.fspath(path)


def _list_local(top: str) -> Iterator[str]:
    # os.scandir tells folders from files without a stat for each: 1.28 million files take seconds instead of minutes.
    # Links to folders are followed, but for those that lead back to a folder they lie in: `reals` holds the real path of
    # the folder at hand, after those of the folders from which links led here.
    pending: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(top),))]
    while pending:
        prefix, reals = pending.pop()
        try:
            entries = os.scandir(os.path.join(top, prefix))
        except OSError as error:
            raise UserError(f"{os.path.join(top, prefix)}: this folder cannot be listed: {one_line(error)}") from error
        with entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not entry.is_dir():
                    # a pipe or a device would be waited for; a link to nothing is told when it is read
                    if _is_image(entry.name) and (entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))):
                        yield prefix + entry.name
                elif not entry.is_symlink():
                    pending.append((f"{prefix}{entry.name}/", (*reals[:-1], f"{reals[-1]}/{entry.name}")))
                else:
                    target = os.path.realpath(entry.path)
                    if not any(f"{real}/".startswith(f"{target}/") for real in reals):
                        pending.append((f"{prefix}{entry.name}/", (*reals, target)))


def _list_remote(top: epath.Path, prefix: str = "") -> Iterator[str]:
    for entry in top.iterdir():
        if entry.name.startswith("."):
            continue
        # an object store answers is_dir() with a request of its own: names that look like images are taken as files
        if _is_image(entry.name):
            yield prefix + entry.name
        elif entry.is_dir():
            yield from _list_remote(entry, f"{prefix}{entry.name}/")


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _folders(path: epath.Path) -> list[str]:
    remote = is_remote(path)  # where names that look like images are taken as files
    entries = (entry for entry in path.iterdir() if not entry.name.startswith("."))
    return sorted(entry.name for entry in entries if not (remote and _is_image(entry.name)) and entry.is_dir())


def _classes_of(top: epath.Path) -> tuple[str, ...]:
    own = set(_folders(top))
    beside = _folders(top.parent)
    training = [name for name in (top.name, *beside) if name.lower() in _TRAINING_SPLITS]
    if training:
        known = _folders(top.parent / training[0])
        return (*known, *sorted(own.difference(known)))
    union = set(own)
    others = [set(_folders(top.parent / name)) for name in beside if name != top.name]
    while related := [names for names in others if names & union]:
        others = [names for names in others if not names & union]
        union.update(*related)
    return tuple(sorted(union))


def _unknown_split(root: epath.Path, split: str) -> str:
    if "[" in split or "+" in split:
        return f"{root}: no folder {split!r}: a folder has no sub-splits: set split to a folder below it and limit to a number of images"
    if root.name == split:
        return f"{root}: no folder {split!r} in it: set path to {root.parent}, or {_NO_LABELS}"
    folders = _folders(root)
    if not folders:
        return f"{root}: no folder {split!r} in it, and no other folder: {_NO_LABELS}"
    near = difflib.get_close_matches(split, folders, n=1)
    guess = f"{near[0]!r}" if near else "one of them"
    shown = first_few(folders, 8)
    return f"{root}: no folder {split!r} in it, it has {shown}: set split to {guess} if its folders are the classes, or {_NO_LABELS}"


__all__ = ["EXTENSIONS", "FolderSource", "is_remote"]
