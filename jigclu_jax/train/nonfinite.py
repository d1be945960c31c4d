"""Names the images of the batch whose loss or gradient was not finite."""

import json
import math

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.atomic_file import write_text
from jigclu_jax.data.input.order import step_examples
from jigclu_jax.data.sources.opening import Source
from jigclu_jax.errors import NonFiniteError, first_few

FILE = "nonfinite.json"
_NAMED = 8  # images of a batch in a message


def with_examples(
    error: NonFiniteError, config: ConfigDict, source: Source, steps_per_epoch: int, root: epath.Path | None
) -> NonFiniteError:
    """The error with the images of its batch, which are a function of the step; all of them go into nonfinite.json in `root`."""
    numbers = step_examples(config.seed, error.step - 1, len(source), steps_per_epoch, config.batch_size).tolist()
    names = [source.describe(number) for number in numbers]
    text = f"{error}; the batch of step {error.step}: {first_few(names, _NAMED)}"
    if root is not None:
        metrics = {name: value if math.isfinite(value) else None for name, value in error.metrics.items()}
        examples = [{"index": number, "name": name} for number, name in zip(numbers, names, strict=True)]
        fields = {"step": error.step, "epoch": (error.step - 1) // steps_per_epoch, "metrics": metrics, "examples": examples}
        write_text(root / FILE, json.dumps(fields, indent=2) + "\n")
        text += f", all in {root / FILE}"
    return NonFiniteError(text, step=error.step, metrics=error.metrics)
