"""Selects subsets of a data set: a number of images, a fraction of every class, a list of names.

Everything is a function of labels or names and a seed, so that a part is the same on every machine.
"""

import math
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from etils import epath
from jaxtyping import Int32, Int64

from jigclu_jax.errors import UserError, counted, one_line

# Second word of the Philox key, out of reach of the epoch numbers that the order of examples uses there.
_LIMIT_STREAM = 0x6C696D6974
_LAST_COLUMN = re.compile(r"(\s*[,;]\s*|\s+)[^,;\s]*$")


def subset_indices(count: int, labels: Int32[np.ndarray, " n"] | None, limit: int, seed: int) -> Int64[np.ndarray, " k"]:
    """Draws `limit` of `count` examples, class by class where labelled; sorted indices, int64[limit].

    Classes get the same number of examples as far as they have them, within one. A larger limit with the same seed
    contains the smaller one.
    """
    generator = np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, _LIMIT_STREAM], np.uint64)))
    order = generator.permutation(count)
    if labels is None:
        return np.sort(order[:limit]).astype(np.int64)
    drawn = labels[order]
    turn = generator.permutation(int(labels.max()) + 1)  # which class comes first when there are examples left over
    first = np.lexsort((turn[drawn], _rank_in_class(drawn)))[:limit]
    return np.sort(order[first]).astype(np.int64)


def balanced_indices(labels: Int32[np.ndarray, " n"], fraction: float, seed: int, classes: Sequence[str]) -> Int64[np.ndarray, " k"]:
    """The same number of examples of every class that has any, about `fraction` of all in total; sorted indices.

    That number is floor(fraction * n / classes with examples). A larger fraction with the same seed contains the smaller
    one. `classes` are the names, for messages.

    Raises:
      UserError: not even one example a class (with the least fraction), or more than a class has (with the largest).
    """
    counts = np.bincount(labels, minlength=1)
    present = np.flatnonzero(counts)
    n, own = len(labels), len(present)
    # decimals such as 0.29 * 100 fall just below the whole number that is meant
    each = math.floor(fraction * n / own + 1e-9)
    if each < 1:
        least = math.ceil(1e6 * own / n) / 1e6
        raise UserError(
            f"fraction={fraction:g} of {counted(n, 'image')} in {counted(own, 'class')} is less than one image a class:"
            f" set fraction to at least {least:g}"
        )
    rarest = int(present[np.argmin(counts[present])])
    if each > counts[rarest]:
        most = math.floor(1e6 * int(counts[rarest]) * own / n) / 1e6
        raise UserError(
            f"fraction={fraction:g} asks for {counted(each, 'image')} of every class, and class {classes[rarest]!r} has {counts[rarest]}: "
            f"set fraction to at most {most:g}, or use limit={each * own}, which takes from a class what it has"
        )
    return subset_indices(n, labels, each * own, seed)


def listed_indices(path: str, names: Sequence[str] | None, source: str, split: str) -> Int64[np.ndarray, " k"]:
    """The images that a text file names, one a line; sorted indices.

    A line is a name as the source has it (a path below the split's folder, a record's key), the same with the split's name or the path of
    the folder before it, or a file name without folders where that is unambiguous. Backslashes, "./" before a name, and columns behind it
    (a label, say, which is not looked at) do not matter. Empty lines are passed over.

    Args:
      path: the text file; `gs://` works.
      names: the source's names in its order, None where it has none.
      source: the source's name, for messages.
      split: the split's name.

    Raises:
      UserError: naming the line: an unknown name, an ambiguous one, one that stands there twice; or an empty or missing file.
    """
    if names is None:
        raise UserError(f"list={path}: the images of {source} have no names: use fraction or limit")
    lines = _lines(path)
    find = _Names(names, source, split)
    found: dict[int, int] = {}  # index -> line
    unknown: list[tuple[int, str]] = []
    for number, line in lines:
        position = find(line)
        if position is None:
            unknown.append((number, line))
        elif position < 0:
            twice = find.ambiguous(line)
            raise UserError(f"{path} line {number}: {line!r} could be {twice[0]} or {twice[1]}: give the folder as well")
        elif position in found:
            raise UserError(f"{path} line {number}: {line!r} stands on line {found[position]} already: remove one of them")
        else:
            found[position] = number
    if unknown:
        number, line = unknown[0]
        more = f" (and {len(unknown) - 1} more of {len(lines)} lines)" if len(unknown) > 1 else ""
        raise UserError(f"{path} line {number}: no image {line!r} in {source}{more}; names there are like {names[0]!r}")
    return np.array(sorted(found), np.int64)


class _Names:
    """Looks up the names of a list: the index, None for an unknown one, -1 for one that several images have."""

    def __init__(self, names: Sequence[str], source: str, split: str) -> None:
        self._names = names
        self._whole = {_plain(name): index for index, name in enumerate(names)}
        self._bare: dict[str, int] = {}
        for index, name in enumerate(names):
            short = _plain(name).rpartition("/")[2]
            self._bare[short] = index if short not in self._bare else -1
        root = _plain(os.path.abspath(os.path.expanduser(source)))
        self._before = [f"{before.rstrip('/')}/" for before in (split, _plain(source), root) if before]

    def __call__(self, line: str) -> int | None:
        forms = list(_forms(line))
        for form in forms:
            for name in (form, *(form.removeprefix(before) for before in self._before)):
                if name in self._whole:
                    return self._whole[name]
        return next((self._bare[form] for form in forms if form in self._bare), None)

    def ambiguous(self, line: str) -> list[str]:
        """The names of the images that have the file name of the line."""
        forms = set(_forms(line))
        return [name for name in self._names if _plain(name).rpartition("/")[2] in forms]


def _plain(name: str) -> str:
    """A name with slashes, in one Unicode form and without what does not change it."""
    plain = unicodedata.normalize("NFC", name.replace("\\", "/"))
    while plain.startswith("./"):
        plain = plain[2:]
    return plain


def _forms(line: str) -> Iterator[str]:
    """The names that a line may hold: all of it, then what stands before its last column, before the one before that, ..."""
    yield line
    rest = line.strip("\"'")
    while rest:
        yield _plain(rest)
        rest = _LAST_COLUMN.sub("", rest).strip("\"'") if _LAST_COLUMN.search(rest) else ""


def _lines(path: str) -> list[tuple[int, str]]:
    """(number, text) of the lines that are not empty."""
    file = epath.Path(path).expanduser()
    if not file.exists() or file.is_dir():
        what = "a folder" if file.exists() else "no such file"
        raise UserError(f"list={path}: {what}: give a text file with one image a line")
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = file.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path} line {number}: not UTF-8 text: give a text file with one image a line") from None
    except Exception as error:  # remote file systems raise other things than OSError
        raise UserError(f"list={path}: cannot be read: {one_line(error)}") from error
    lines = [(number, line.strip()) for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1) if line.strip()]
    if not lines:
        raise UserError(f"list={path}: the file is empty: give one image a line")
    return lines


def _rank_in_class(labels: Int32[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """How many examples of the same class stand before each."""
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    rank = np.empty(len(labels), np.int64)
    rank[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
