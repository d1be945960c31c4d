"""Linear probe on stored features: trains a grid of heads, chooses one on a held-out part of training, scores the test set once."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from jigclu_jax.evals.features import FeatureBank
from jigclu_jax.evals.heads import Recipe, best_head, fit_heads, head_accuracies, standardiser
from jigclu_jax.evals.labels import held_out_mask
from jigclu_jax.evals.logistic import fit_logistic
from jigclu_jax.evals.ridge import PENALTIES, fit_ridge
from jigclu_jax.losses.cross_entropy import hits


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of the probe; the fields of `config.probe`."""

    learning_rates: Sequence[float]
    weight_decays: Sequence[float]
    recipe: Recipe
    standardise: bool
    held_out: float
    refit: bool

    @property
    def pairs(self) -> list[tuple[float, float]]:
        """(learning rate, weight decay) of every head."""
        return list(itertools.product(self.learning_rates, self.weight_decays))


@dataclasses.dataclass(frozen=True)
class Probed:
    """Result of the probe.

    Attributes:
      scores: of the chosen head on the test set.
      learning_rate: of the chosen head.
      weight_decay: of the chosen head.
      held_out_top1: its accuracy on the held-out part.
      heads: (learning rate, weight decay, accuracy on the held-out part) of every head.
      held_out_images: size of that part.
    """

    scores: Float[np.ndarray, "k c"]
    learning_rate: float
    weight_decay: float
    held_out_top1: float
    heads: list[tuple[float, float, float]]
    held_out_images: int


def fast_probe(
    train: FeatureBank,
    test: FeatureBank,
    classes: int,
    settings: Settings,
    say: Callable[[str, int], None] = lambda part, epoch: None,
) -> Probed:
    """Train all heads on training without its held-out part, choose, and score the test set with the chosen one.

    With `settings.refit` the chosen pair is trained once more on all of training, in the same manner, and that head is scored.
    """
    held = held_out_mask(train.labels, settings.held_out, settings.recipe.seed)
    kept_x, kept_y = train.features[~held], train.labels[~held]
    prepare = standardiser(kept_x) if settings.standardise else _as_they_are
    rates, decays = zip(*settings.pairs, strict=True)
    heads = fit_heads(prepare(kept_x), kept_y, classes, rates, decays, settings.recipe, lambda epoch: say("heads", epoch))
    accuracies = head_accuracies(heads, prepare(train.features[held]), train.labels[held])
    best = best_head(accuracies, rates, decays)
    if settings.refit:
        prepare = standardiser(train.features) if settings.standardise else _as_they_are
        one = [rates[best]], [decays[best]]
        heads = fit_heads(prepare(train.features), train.labels, classes, *one, settings.recipe, lambda epoch: say("refit", epoch))
    scores = heads.scores(prepare(test.features), 0 if settings.refit else best)
    return Probed(scores, rates[best], decays[best], accuracies[best], list(zip(rates, decays, accuracies, strict=True)), int(held.sum()))


def ridge_scores(train: FeatureBank, test: FeatureBank, classes: int, settings: Settings) -> tuple[Float[np.ndarray, "k c"], float]:
    """(scores of the test set, penalty) of ridge regression on standardised features, penalty chosen on the same held-out part."""
    held = held_out_mask(train.labels, settings.held_out, settings.recipe.seed)
    prepare = standardiser(train.features[~held])
    fits = fit_ridge(prepare(train.features[~held]), train.labels[~held], classes)
    held_x = prepare(train.features[held])
    accuracies = [np.mean(hits(held_x @ weights + bias, train.labels[held])) for weights, bias in fits]
    penalty = PENALTIES[int(np.argmax(accuracies))]
    prepare = standardiser(train.features)
    weights, bias = fit_ridge(prepare(train.features), train.labels, classes, (penalty,))[0]
    return prepare(test.features) @ weights + bias, penalty


def lbfgs_scores(train: FeatureBank, test: FeatureBank, classes: int, settings: Settings, penalty: float) -> Float[np.ndarray, "k c"]:
    """Scores of the test set by logistic regression with that weight decay, solved by L-BFGS on all of training."""
    prepare = standardiser(train.features) if settings.standardise else _as_they_are
    weights, bias = fit_logistic(prepare(train.features), train.labels, classes, penalty)
    return prepare(test.features) @ weights + bias


def _as_they_are(features: np.ndarray) -> np.ndarray:
    return features
