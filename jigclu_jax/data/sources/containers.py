"""Recognises what lies at a path that is no folder of images (archives, arrays, shards of other programs) and says what to do with it."""

import os
import tarfile
import zipfile
from pathlib import PurePosixPath

from etils import epath

from jigclu_jax.data.sources.decode import EXTENSIONS
from jigclu_jax.data.sources.file_kinds import kind_of
from jigclu_jax.data.sources.listing import Listing
from jigclu_jax.errors import counted

_LOOKED_AT = 2000  # entries of a tar file
# Files that hold many images, by the end of their names: what they are, what to do.
_HOLDERS = (
    ((".h5", ".hdf5", ".hdf"), "HDF5", "write their images as files, or into an .npz file for source 'arrays', with h5py"),
    (
        (".tar", ".tar.gz", ".tgz"),
        "tar",
        "unpack them into folders split/class/file (WebDataset names the classes in .cls files)",
    ),
    ((".zip", ".7z", ".rar"), "archives", "unpack them"),
    ((".parquet", ".arrow"), "Parquet or Arrow tables", "write their images as files, with pyarrow or datasets"),
    ((".npz",), "NumPy archives", "set source to 'arrays' and path to one of them"),
    ((".npy",), "NumPy arrays", "save them with numpy.savez(path, image=..., label=...) for source 'arrays'"),
    ((".array_record",), "ArrayRecord shards", "set source to 'prepared', or 'tfds' for a data set of TensorFlow Datasets"),
    ((".tfrecord",), "TFRecord shards", "set source to 'tfds', if TensorFlow Datasets prepared them"),
    ((".lmdb", ".mdb", ".rec", ".beton", ".mds", ".lance", ".sqlite", ".db"), "a database of another program", "write its images as files"),
    ((".sqfs", ".squashfs", ".iso", ".img"), "an image of a disk", "mount it"),
    (
        (".csv", ".tsv", ".txt", ".json", ".jsonl"),
        "lists or annotations",
        "set path to the folder of the images, and list to a list of some",
    ),
    ((".mat", ".pkl", ".pickle", ".pt", ".pth"), "arrays of another program", "write their images into an .npz file for source 'arrays'"),
    (("-ubyte", "-ubyte.gz"), "IDX arrays as MNIST has them", "write their images into an .npz file for source 'arrays'"),
)


def what_is_there(path: epath.Path) -> str:
    """What `path` is, where a folder of images was wanted, and what to do."""
    if not path.exists():
        return "a link to itself or to nothing" if os.path.islink(path) else "no such folder"
    if not path.is_file():
        return "no folder"
    name = path.name.lower()
    inside = _archived(path)
    if inside:
        return f"a file, not a folder: an archive of {inside}: unpack it"
    for endings, what, advice in _HOLDERS:
        if name.endswith(endings) or any(f"{ending}-" in name for ending in endings):  # -00000-of-00010
            return f"a file, not a folder ({what}): {advice}"
    try:
        with path.open("rb") as file:
            kind = kind_of(file.read(4096))
    except Exception:  # what cannot be read is a file all the same
        kind = None
    return f"a file, not a folder: {kind.name}: {kind.advice}" if kind else "a file, not a folder"


def what_is_inside(folder: epath.Path, listing: Listing) -> str:
    """What the files of a folder without images hold, and what to do; empty where that is not known."""
    for what, count in listing.passed.most_common():
        name = listing.first[what]
        for endings, kind, advice in _HOLDERS:
            if what in endings or name.lower().endswith(endings):
                return f"{kind} ({count}): {advice}"
        if what == "without an extension" and _is_image(folder / name):
            return f"{name} is an image without an extension: give such files one, as .jpg"
    return ""


def _is_image(path: epath.Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(16).startswith((b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF"))
    except Exception:  # what cannot be read is not known
        return False


def _archived(path: epath.Path) -> str:
    """How many images, at least, a local zip or tar file holds; empty for any other file, or for none."""
    names: list[str] = []
    more = False
    try:
        if zipfile.is_zipfile(path) and path.suffix.lower() != ".npz":
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        elif path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
            with tarfile.open(path) as archive_of_tar:
                while len(names) < _LOOKED_AT and (member := archive_of_tar.next()) is not None:
                    names.append(member.name)
                more = len(names) == _LOOKED_AT
    except Exception:  # a damaged archive, or a remote one
        return ""
    images = sum(PurePosixPath(name.lower()).suffix in EXTENSIONS for name in names)
    return f"{'at least ' if more else ''}{counted(images, 'image')}" if images else ""
