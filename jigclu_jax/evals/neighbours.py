"""Nearest neighbours and near-duplicates among the features of a folder's images, by faiss where it is installed."""

import importlib
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from etils import epath

from jigclu_jax.errors import UserError, counted
from jigclu_jax.evals.embedding_file import read_embeddings
from jigclu_jax.evals.knn import nearest
from jigclu_jax.ops.unit_length import unit_length


class Neighbour(NamedTuple):
    """An image by its name, and the cosine of the angle between its features and those asked for."""

    name: str
    similarity: float


class Pair(NamedTuple):
    """Two images by their names, and the cosine between their features."""

    first: str
    second: str
    similarity: float


def neighbours(path: epath.PathLike, image: str | np.ndarray, k: int = 10) -> list[Neighbour]:
    """The k images most like one of the file, by its name (which is left out itself), or like features float32[D]; the nearest first.

    Args:
      path: the file that the job `embed` wrote.
      image: a name in it, or the end of one that tells it; or features.
      k: how many; fewer where there are no more.

    Raises:
      UserError: no such file, no such name, several that end so, or features of another size.
    """
    found = read_embeddings(path)
    own = None
    if isinstance(image, str):
        own = _row(found.names, image)
        query = found.features[own]
    else:
        query = np.asarray(image, np.float32)
        if query.shape != found.features.shape[1:]:
            raise UserError(
                f"the features asked for have shape {query.shape}, those of {path} {found.features.shape[1:]}: use one backbone"
            )
    similarity, index = _nearest(query[None], found.features, min(k + (own is not None), len(found.names)))
    pairs = [(int(row), float(cosine)) for row, cosine in zip(index[0], similarity[0], strict=True) if row != own]
    return [Neighbour(found.names[row], cosine) for row, cosine in pairs[:k]]


def near_duplicates(path: epath.PathLike, threshold: float = 0.98, most: int = 10) -> list[Pair]:
    """Pairs of images whose cosine is at least the threshold, the most alike first, each once; of an image its `most` nearest are seen.

    Raises:
      UserError: no such file, or a threshold that is no cosine.
    """
    if not -1 <= threshold <= 1:
        raise UserError(f"threshold={threshold:g} is no cosine: give one from -1 to 1, as 0.98")
    found = read_embeddings(path)
    similarity, index = _nearest(found.features, found.features, min(most + 1, len(found.names)))
    pairs: dict[tuple[int, int], float] = {}
    for row in range(len(found.names)):
        for other, cosine in zip(index[row], similarity[row], strict=True):
            if other != row and cosine >= threshold:
                pairs[min(row, int(other)), max(row, int(other))] = float(cosine)
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [Pair(found.names[a], found.names[b], cosine) for (a, b), cosine in ordered]


def _nearest(queries: np.ndarray, features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """`nearest`, by faiss's exact index of inner products where there is one."""
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return nearest(queries, features, k)
    if not 1 <= k <= len(features):
        return nearest(queries, features, k)  # which refuses it
    bank, asked = (np.array(unit_length(jnp.asarray(rows))) for rows in (features, queries))
    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank)
    similarity, rows = index.search(asked, k)
    return similarity, rows


def _row(names: list[str], name: str) -> int:
    rows = [row for row, own in enumerate(names) if own == name] or [row for row, own in enumerate(names) if own.endswith(f"/{name}")]
    if len(rows) != 1:
        raise UserError(f"{name!r} is the name of {counted(len(rows), 'image')}, not of one; the first is {names[0]!r}")
    return rows[0]
