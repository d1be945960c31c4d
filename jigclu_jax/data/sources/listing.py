"""Lists the image files below a folder, and what was passed over and why."""

import collections
import dataclasses
import os
import re
import unicodedata

from etils import epath

from jigclu_jax.config.jobs import JOBS
from jigclu_jax.data.sources.decode import EXTENSIONS
from jigclu_jax.errors import UserError, one_line
from jigclu_jax.json_file import parse_json

# What systems and programs put beside images; names that begin with a dot are passed over as well.
_SYSTEM = re.compile(
    r"@eadir|@syno\w+|@recycle|@recently-snapshot|@sharesnap|@tmp|@__\w+|#recycle|#snapshot|__macosx|__pycache__|\$recycle\.bin|recycler|lost\+found"
    r"|_vti_\w+|network trash folder|temporary items"
    r"|system volume information|thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|icon\r"
)
# Extensions of pictures that are not read.
_PICTURES = re.compile(
    r"\.(heic|heif|avif|jxl|dcm|dicom|svg|psd|exr|hdr|tga|ico|dds|eps|ps|pdf|ai|cr2|cr3|nef|arw|dng|orf|rw2|raf|raw|nii|fits|fit|qoi|xcf"
    r"|pcx|icns|dib|jng|mp4|mov|avi|mkv|webm)"
)
# Control characters, ends of lines, and those that turn the direction of writing.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LINKS = "links that lead in a circle"
_RUNS = "folders of runs"  # whose pictures are no data
_LARGEST = 1 << 20  # bytes of a run's config.json
_SHOWN = 6  # kinds that a message names


@dataclasses.dataclass
class Listing:
    """The images below a folder, as paths below it, and how much was passed over.

    Attributes:
      files: images, unsorted.
      passed: what was passed over -> how many; extensions begin with a dot.
      first: an example of each, whatever the order of listing.
    """

    files: list[str] = dataclasses.field(default_factory=list)
    passed: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    first: dict[str, str] = dataclasses.field(default_factory=dict)

    def pass_over(self, what: str, name: str) -> None:
        """Counts one entry that is no image."""
        self.passed[what] += 1
        self.first[what] = min(self.first.get(what, printable(name)), printable(name))

    def summary(self) -> str:
        """What was passed over, in one line; empty where nothing was."""
        parts = []
        for what, count in self.passed.most_common(_SHOWN):
            note = ": not read, convert them to JPEG or PNG" if _PICTURES.fullmatch(what) else ""
            parts.append(f"{count:,} {what} ({self.first[what]}{note})" if note or not what.startswith(".") else f"{count:,} {what}")
        rest = len(self.passed) - len(parts)
        return ", ".join(parts) + (f", {rest} other kinds" if rest > 0 else "")


def list_images(top: epath.Path) -> Listing:
    """Lists the images below a local or remote folder; UserError for a folder that cannot be listed."""
    listing = Listing()
    if is_remote(top):
        _list_remote(top, "", listing)
    else:
        _list_local(os.fspath(top), listing)
    return listing


def folders_in(path: epath.Path) -> list[str]:
    """The names of the folders in `path` that may hold images, sorted."""
    remote = is_remote(path)  # where names that look like images are taken as files
    entries = (entry for entry in path.iterdir() if not _is_passed(entry.name))
    return sorted(entry.name for entry in entries if not (remote and _is_image(entry.name)) and entry.is_dir())


def is_remote(path: epath.Path) -> bool:
    """Whether `path` is on a remote file system (`gs://`, `s3://`, ...), where `os` functions do not reach."""
    return "://" in os.fspath(path)


def printable(name: str) -> str:
    """A file's name as text on one line: bytes that are no UTF-8 as \\x.., and what moves a terminal's cursor or turns its text alike."""
    if name.isascii() and name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def class_name(folder: str) -> str:
    """The name of the class that a folder is: printable, and the same in whichever Unicode form the file system keeps it (NFC)."""
    return unicodedata.normalize("NFC", printable(folder))


def _list_local(top: str, listing: Listing) -> None:
    # os.scandir tells folders from files without a stat for each: 1.28 million files take seconds instead of minutes.
    # Links to folders are followed, but for those that lead back to a folder they lie in: `reals` holds the real path of
    # the folder at hand, after those of the folders from which links led here.
    pending: list[tuple[str, tuple[str, ...]]] = [("", (os.path.realpath(top),))]
    while pending:
        prefix, reals = pending.pop()
        before = len(listing.files), len(pending)
        try:
            entries = os.scandir(os.path.join(top, prefix))
        except OSError as error:
            raise UserError(f"{printable(os.path.join(top, prefix))}: this folder cannot be listed: {one_line(error)}") from error
        with entries:
            for entry in entries:
                name = prefix + entry.name
                if _note_passed(entry.name, name, listing):
                    continue
                try:
                    folder = entry.is_dir()
                except OSError:  # a link to itself
                    listing.pass_over(_LINKS, name)
                    continue
                if prefix and entry.name == "config.json" and not folder and _is_of_run(entry.path):
                    del listing.files[before[0] :], pending[before[1] :]
                    listing.pass_over(_RUNS, prefix.rstrip("/"))
                    break
                if not folder:
                    # a pipe or a device would be waited for; a link to nothing is told when it is read
                    if not _is_image(entry.name):
                        listing.pass_over(_extension(entry.name), name)
                    elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
                        listing.files.append(name)
                    else:
                        listing.pass_over("pipes or devices", name)
                elif not entry.is_symlink():
                    pending.append((f"{name}/", (*reals[:-1], f"{reals[-1]}/{entry.name}")))
                else:
                    target = os.path.realpath(entry.path)
                    if any(f"{real}/".startswith(f"{target}/") for real in reals):
                        listing.pass_over(_LINKS, name)
                    else:
                        pending.append((f"{name}/", (*reals, target)))


def _list_remote(top: epath.Path, prefix: str, listing: Listing) -> None:
    for entry in top.iterdir():
        name = prefix + entry.name
        if _note_passed(entry.name, name, listing):
            continue
        # an object store answers is_dir() with a request of its own: names that look like images are taken as files
        if _is_image(entry.name):
            listing.files.append(name)
        elif entry.is_dir():
            _list_remote(entry, f"{name}/", listing)
        else:
            listing.pass_over(_extension(entry.name), name)


def _is_of_run(path: str) -> bool:
    """Whether a file is the config that a job leaves in its workdir."""
    try:
        if os.path.getsize(path) > _LARGEST:
            return False
        with open(path, "rb") as file:
            return parse_json(file.read()).get("job") in JOBS
    except (OSError, ValueError, TypeError):
        return False


def _is_passed(name: str) -> bool:
    return name.startswith(".") or _SYSTEM.fullmatch(name.lower()) is not None


def _note_passed(name: str, path: str, listing: Listing) -> bool:
    if not _is_passed(name):
        return False
    listing.pass_over("hidden" if name.startswith(".") else "left by the system", path)
    return True


def _is_image(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _extension(name: str) -> str:
    ending = os.path.splitext(name)[1].lower()
    if ".tfrecord-" in name:
        return ".tfrecord"
    return printable(ending) if 1 < len(ending) <= 14 else "without an extension"
