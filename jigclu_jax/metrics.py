"""What a metric is: its title, unit, chance level, and which direction is better. Progress lines, curves, reports and the choice of the
best checkpoint read these, and know no metric by name."""

import dataclasses
from typing import Literal

SPECS_FILE = "metric_specs.json"  # of a workdir: what its metrics are


@dataclasses.dataclass(frozen=True)
class MetricSpec:
    """One number that a run measures, by the name under which it stands in `metrics.jsonl`.

    Attributes:
      name: as in `metrics.jsonl`.
      title: for a person, as "location accuracy". Metrics whose titles agree up to the first comma, as "top-1, training batches" and
        "top-1, validation", stand in one drawing.
      unit: "%" for a fraction 0..1 that is shown in per cent; else what stands behind the number, "" for none.
      chance: the value that guessing, or a network that has learned nothing, gives, in the metric's own numbers; None where there is none.
      better: the direction of progress; "" where neither is.
      short: for the progress line, as "top-1"; "" keeps the metric out of it.
      about: a sentence for whoever does not know the metric; "" where the title says it all.
    """

    name: str
    title: str
    unit: str = ""
    chance: float | None = None
    better: Literal["max", "min", ""] = ""
    short: str = ""
    about: str = ""


def accuracy_spec(name: str, title: str, chance: float | None = None, short: str = "", about: str = "") -> MetricSpec:
    """A fraction of right answers, 0..1."""
    return MetricSpec(name, title, "%", chance, "max", short, about)


def loss_spec(name: str, title: str, chance: float | None = None) -> MetricSpec:
    """A loss: less is better."""
    return MetricSpec(name, title, chance=chance, better="min")
