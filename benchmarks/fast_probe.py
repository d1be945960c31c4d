"""Many linear heads at once: how long, how good beside one head trained alone, and what others make of the same features.

    python benchmarks/fast_probe.py                             # 50,000 x 512 drawn from class clusters
    python benchmarks/fast_probe.py --features train.npz test.npz
    python benchmarks/fast_probe.py --small                     # a try of seconds: 4,000 x 64, 10 epochs

Without --features no data set is needed. With it: the two files that a fast probe left in its `features` folder, training and
evaluation. Rows: seconds for the grid (24 heads, 100 epochs, batch 256); accuracy of its best head on the evaluation rows beside the
same pair of rate and decay trained alone by a plain NumPy loop of SGD in the same order, on the same split; the whole fast probe (with
its choice and refit) beside scikit-learn's logistic regression, accuracy and time, where that is installed; ridge and L-BFGS.
"""

import argparse
import importlib.util
import time

import clusters
import numpy as np
from rows import print_row

from jigclu_jax.config import head_grid_config
from jigclu_jax.data.input.order import epoch_order
from jigclu_jax.evals.fast_probe import Settings, fast_probe, lbfgs_scores, ridge_scores
from jigclu_jax.evals.features import FeatureBank
from jigclu_jax.evals.heads import Recipe, best_head, fit_heads, head_accuracies, standardiser
from jigclu_jax.evals.labels import held_out_mask
from jigclu_jax.losses.cross_entropy import hits


def read(path: str) -> FeatureBank:
    with np.load(path) as archive:
        return FeatureBank(*(archive[name] for name in ("features", "labels", "indices")))


def alone(x: np.ndarray, y: np.ndarray, classes: int, rate: float, decay: float, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """One head by SGD, written out in NumPy: shares no line with `fit_heads` but the order of the rows."""
    kernel, bias = np.zeros((x.shape[1], classes), np.float32), np.zeros(classes, np.float32)
    kernel_speed, bias_speed = np.zeros_like(kernel), np.zeros_like(bias)
    steps = -(-len(x) // recipe.batch_size)
    for epoch in range(recipe.epochs):
        order = epoch_order(recipe.seed, epoch, len(x))
        for step in range(steps):
            rows = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            scores = x[rows] @ kernel + bias
            chances = np.exp(scores - scores.max(1, keepdims=True))
            chances /= chances.sum(1, keepdims=True)
            chances[np.arange(len(rows)), y[rows]] -= 1
            chances /= len(rows)
            kernel_speed = recipe.momentum * kernel_speed + x[rows].T @ chances + decay * kernel
            bias_speed = recipe.momentum * bias_speed + chances.sum(0)
            now = np.float32(rate * 0.5 * (1 + np.cos(np.pi * (epoch * steps + step) / (recipe.epochs * steps))))
            kernel, bias = kernel - now * kernel_speed, bias - now * bias_speed
    return kernel, bias


def percent(scores: np.ndarray, labels: np.ndarray) -> float:
    return round(100 * float(np.mean(hits(scores, labels))), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs=2, metavar=("TRAIN", "TEST"), help="two .npz files of cached features")
    parser.add_argument("--small", action="store_true", help="a quick try")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.features:
        train, test = map(read, arguments.features)
    else:
        rows, dim = (4_000, 64) if arguments.small else (50_000, 512)
        train, test = (FeatureBank(*clusters.draw(seed, count, dim, 10), np.arange(count)) for seed, count in ((1, rows), (2, rows // 5)))
    classes = int(train.labels.max()) + 1
    grid = head_grid_config()
    recipe = Recipe(10 if arguments.small else grid.epochs, grid.batch_size, grid.momentum, arguments.seed)
    settings = Settings(grid.learning_rates, grid.weight_decays, recipe, grid.standardise, grid.held_out, grid.refit)
    rates, decays = zip(*settings.pairs, strict=True)
    more = {"rows": len(train), "dim": train.features.shape[1], "classes": classes, "epochs": recipe.epochs, "heads": len(rates)}

    # the grid on all of training, as the aim is stated: 24 heads, every row
    prepare = standardiser(train.features)
    x = prepare(train.features)
    fit_heads(x, train.labels, classes, rates, decays, Recipe(1, recipe.batch_size))  # compiled
    begun = time.perf_counter()
    heads = fit_heads(x, train.labels, classes, rates, decays, recipe)
    seconds = time.perf_counter() - begun
    print_row("fast_probe grid seconds", round(seconds, 2), "s", **more, aim=60)

    # best head against the same pair alone, on the split of the probe
    held = held_out_mask(train.labels, settings.held_out, recipe.seed)
    inner = standardiser(train.features[~held])
    kept_x, kept_y = inner(train.features[~held]), train.labels[~held]
    heads = fit_heads(kept_x, kept_y, classes, rates, decays, recipe)
    accuracies = head_accuracies(heads, inner(train.features[held]), train.labels[held])
    best = best_head(accuracies, rates, decays)
    together = percent(heads.scores(inner(test.features), best), test.labels)
    begun = time.perf_counter()
    kernel, bias = alone(kept_x, kept_y, classes, rates[best], decays[best], recipe)
    own_seconds = round(time.perf_counter() - begun, 2)
    single = percent(inner(test.features) @ kernel + bias, test.labels)
    chosen = {"learning_rate": rates[best], "weight_decay": decays[best]}
    print_row(
        "fast_probe best head top1", together, "percent", peer="the same pair alone, NumPy SGD", peer_value=single,
        difference=round(together - single, 2), aim=0.3, peer_seconds=own_seconds, **chosen,
    )  # fmt: skip

    begun = time.perf_counter()
    found = fast_probe(train, test, classes, settings)
    seconds = round(time.perf_counter() - begun, 2)
    ours = percent(found.scores, test.labels)
    if importlib.util.find_spec("sklearn") is None:
        print_row("fast_probe top1", ours, "percent", seconds=seconds, note="scikit-learn is not installed: no peer")
    else:
        peer, peer_seconds = sklearn_logistic(train, test, x, prepare(test.features))
        common = {"peer": "scikit-learn LogisticRegression, its C by the same held-out part"}
        print_row("fast_probe top1", ours, "percent", **common, peer_value=peer, difference=round(ours - peer, 2))
        print_row("fast_probe seconds, choice and refit", seconds, "s", **common, peer_value=peer_seconds)
    for name in ("ridge", "lbfgs"):
        begun = time.perf_counter()
        if name == "ridge":
            scores, _ = ridge_scores(train, test, classes, settings)
        else:
            scores = lbfgs_scores(train, test, classes, settings, found.weight_decay)
        print_row(f"{name} top1", percent(scores, test.labels), "percent", seconds=round(time.perf_counter() - begun, 2))


def sklearn_logistic(train: FeatureBank, test: FeatureBank, x: np.ndarray, test_x: np.ndarray) -> tuple[float, float]:
    """(top-1 in percent, seconds) of lbfgs on standardised features: four strengths tried on the held-out part, the best one refitted."""
    from sklearn.linear_model import LogisticRegression

    begun = time.perf_counter()
    held = held_out_mask(train.labels, 0.1, 0)

    def fit(penalty: float, x: np.ndarray, y: np.ndarray) -> "LogisticRegression":
        return LogisticRegression(C=1 / (penalty * len(x)), max_iter=200).fit(x, y)

    penalties = (1e-5, 1e-4, 1e-3, 1e-2)
    scores = [fit(penalty, x[~held], train.labels[~held]).score(x[held], train.labels[held]) for penalty in penalties]
    model = fit(penalties[int(np.argmax(scores))], x, train.labels)
    return round(100 * model.score(test_x, test.labels), 2), round(time.perf_counter() - begun, 2)


if __name__ == "__main__":
    main()
