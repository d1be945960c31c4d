"""Mean, deviation and interval of a result over seeds, and whether two results can be told apart."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Summary:
    """Summary of runs that differ by their seed alone.

    Attributes:
      values: one a seed.
      mean: their mean.
      deviation: their standard deviation (n - 1), None for a single seed.
      low, high: confidence interval of the mean, None where nothing gives one.
      over: what the interval is over: "seeds", "images" of the evaluation, or "" without one.
    """

    values: tuple[float, ...]
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    over: str


def summarise(values: Sequence[float], single: Sequence[float] | None = None, level: float = LEVEL, *, fraction: bool = False) -> Summary:
    """Mean and Student's t interval of two seeds or more; of one seed its own interval over the evaluation images, `single`.

    Seeds with the very same value (a collapsed backbone at chance, or coincidence) say nothing of their deviation: an interval without
    width would resolve whatever it is held against, so that they have the interval of one of them. That of a `fraction` ends at 0 and 1.
    """
    mean = float(np.mean(values))
    if len(set(values)) < 2:
        low, high = single or (None, None)
        return Summary(tuple(values), mean, 0.0 if len(values) > 1 else None, low, high, "images" if single else "")
    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * deviation / len(values) ** 0.5
    low, high = mean - half, mean + half
    if fraction:
        low, high = max(low, 0.0), min(high, 1.0)
    return Summary(tuple(values), mean, deviation, low, high, "seeds")


def verdict(summary: Summary, reference: Summary) -> str:
    """ "above", "below", or "not resolved" where the intervals overlap or one is missing."""
    if summary.low is None or summary.high is None or reference.low is None or reference.high is None:
        return "not resolved"
    if summary.low > reference.high:
        return "above"
    return "below" if summary.high < reference.low else "not resolved"
