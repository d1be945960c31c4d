"""k-nearest-neighbour classification of 10,000 images against 50,000 x 512 features, beside another implementation.

    python benchmarks/knn.py
    python benchmarks/knn.py --features train.npz test.npz
    python benchmarks/knn.py --small

The peer is faiss's exact index where it is installed, else scikit-learn's brute force, else NumPy in float64 (the row says which). Rows:
seconds for the 200 neighbours of all; share of images whose weighted and plain predictions (k = 20 and 200) agree with those made
from the peer's neighbours by a loop in Python.
"""

import argparse
import importlib.util
import math
import time
from collections.abc import Callable

import clusters
import numpy as np
from rows import print_row

from jigclu_jax.evals.knn import TEMPERATURE, knn_predictions, nearest
from jigclu_jax.ops.unit_length import unit_length

KS = (20, 200)
Found = tuple[np.ndarray, np.ndarray]


def with_faiss(queries: np.ndarray, bank: np.ndarray, k: int) -> Found:
    import faiss

    index = faiss.IndexFlatIP(bank.shape[1])
    index.add(bank)
    return index.search(queries, k)


def with_sklearn(queries: np.ndarray, bank: np.ndarray, k: int) -> Found:
    from sklearn.neighbors import NearestNeighbors

    distance, index = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="cosine").fit(bank).kneighbors(queries)
    return 1 - distance, index


def with_numpy(queries: np.ndarray, bank: np.ndarray, k: int) -> Found:
    similarities, indices = [], []
    wide = bank.astype(np.float64)
    for begin in range(0, len(queries), 500):
        similarity = queries[begin : begin + 500] @ wide.T
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        indices.append(order)
        similarities.append(np.take_along_axis(similarity, order, 1))
    return np.concatenate(similarities), np.concatenate(indices)


def slow_votes(similarity: np.ndarray, labels: np.ndarray, k: int, weighted: bool) -> np.ndarray:
    """One image after the other, in Python's own numbers."""
    found = []
    for row, own in zip(similarity.tolist(), labels.tolist(), strict=True):
        score: dict[int, float] = {}
        for cosine, label in zip(row[:k], own[:k], strict=True):
            score[label] = score.get(label, 0.0) + (math.exp(cosine / TEMPERATURE) if weighted else 1.0)
        found.append(min(score, key=lambda label: (-score[label], label)))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs=2, metavar=("TRAIN", "TEST"), help="two .npz files of cached features")
    parser.add_argument("--small", action="store_true", help="1,000 against 5,000 x 64")
    arguments = parser.parse_args()
    if arguments.features:
        sets = []
        for path in arguments.features:
            with np.load(path) as archive:
                sets.append((archive["features"], archive["labels"]))
        (bank, labels), (queries, truth) = sets
    else:
        count, dim = (5_000, 64) if arguments.small else (50_000, 512)
        (bank, labels), (queries, truth) = clusters.draw(1, count, dim, 10), clusters.draw(2, count // 5, dim, 10)
    peers: dict[str, Callable[[np.ndarray, np.ndarray, int], Found]] = {
        "faiss": with_faiss,
        "sklearn": with_sklearn,
        "numpy": with_numpy,
    }
    name = next(name for name in peers if importlib.util.find_spec(name) is not None)
    classes, k = int(labels.max()) + 1, max(KS)
    nearest(queries[:2000], bank, k)  # compiled
    begun = time.perf_counter()
    similarity, index = nearest(queries, bank, k)
    seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    peer_similarity, peer_index = peers[name](unit_length(queries), unit_length(bank), k)
    peer_seconds = time.perf_counter() - begun
    size = {"queries": len(queries), "bank": len(bank), "dim": bank.shape[1]}
    print_row("knn seconds", round(seconds, 2), "s", peer=name, peer_value=round(peer_seconds, 2), **size)
    same = np.mean([len(np.intersect1d(a, b)) for a, b in zip(index, peer_index, strict=True)]) / k
    print_row("knn neighbours in common", round(100 * float(same), 4), "percent", peer=name)
    found = knn_predictions(similarity, labels[index], classes, KS)
    for kind, predictions in found.items():
        way, _, number = kind.partition("_")
        peer = slow_votes(peer_similarity, labels[peer_index], int(number), way == "weighted")
        agreement = 100 * float(np.mean(predictions == peer))
        top1 = round(100 * float(np.mean(predictions == truth)), 2)
        print_row(f"knn {kind} agreement", round(agreement, 3), "percent", peer=name, differ=int((predictions != peer).sum()), top1=top1)


if __name__ == "__main__":
    main()
