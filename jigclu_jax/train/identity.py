"""What a run that goes on must find as it was: its images, their classes, and whatever its job names beside."""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from jigclu_jax.errors import UserError, counted
from jigclu_jax.train.digests import named_leaves
from jigclu_jax.train.state import TrainState
from jigclu_jax.train.stored import stored_shapes


def check_identity(
    old: Mapping[str, Any], new: Mapping[str, Any], root: epath.Path, names: Sequence[str], grown: TrainState | None
) -> None:
    """Refuse a checkpoint of a run on other images, classes, or whatever else is named.

    Args:
      old: meta of the checkpoint.
      new: of this run: `images`, `classes` and `names`.
      root: the workdir, for messages.
      names: what else must be the same.
      grown: where more images than before are accepted, the state that is to be filled; else None.

    Raises:
      UserError: something differs; or the images are more and the method keeps something for each of them.
    """
    what = {"images": "number of images", "classes": "list of classes", **{name: name for name in names}}
    for name, text in what.items():
        then, now = old.get(name), new[name]
        if then == now:
            continue
        shown = more = ""
        if name == "images":
            if grown is not None and then is not None and now > then:
                _check_rows(old, grown, root)
                continue
            shown = f" ({then} then, {now} now)"
            more = "; where images were added, --config.grown_data=True goes on" if then is not None and now > then else ""
        elif name == "classes" and len(then or ()) != len(now or ()):
            shown = f" ({counted(len(then or ()), 'class')} then, {len(now or ())} now)"
        raise UserError(f"the {text} has changed since {root} was begun{shown}: use another workdir, or what it was begun with{more}")


def _check_rows(old: Mapping[str, Any], target: TrainState, root: epath.Path) -> None:
    """Rows are found by an image's place in the data set, which is another one once images lie between the old ones."""
    then, now = stored_shapes(old) or {}, named_leaves({"extra": target.extra})
    for name, leaf in now.items():
        if then.get(name, leaf.shape) != leaf.shape:
            raise UserError(
                f"config.grown_data=True: the run in {root} keeps something for each image ({name}), whose places have changed: "
                f"begin another run from its weights, --config.init.weights={root}"
            )
