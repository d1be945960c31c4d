"""Going on with more images: who may, who may not, and what is said."""

from typing import Any

import numpy as np
import pytest
from etils import epath
from named_errors import raises_naming

from jigclu_jax.train.identity import check_identity
from jigclu_jax.train.state import TrainState

ROOT = epath.Path("runs/mine")


def meta(images: int, classes: list[str] | None = None, rows: int = 0) -> dict[str, Any]:
    leaves = {"extra/queue": "float32[8,2] 1"} | ({"extra/labels": f"int32[{rows}] 1"} if rows else {})
    return {"images": images, "classes": classes, "leaves": leaves}


def state(rows: int = 0) -> TrainState:
    extra: dict[str, Any] = {"queue": np.zeros((8, 2))} | ({"labels": np.zeros(rows, np.int32)} if rows else {})
    return TrainState(step=np.int32(0), params={}, stats={}, opt=(), extra=extra, sums={}, ema={})


def test_more_images_go_on_with_the_switch_alone() -> None:
    check_identity(meta(40), meta(60), ROOT, (), state())
    check_identity(meta(60), meta(60), ROOT, (), None)
    with raises_naming("runs/mine", "40", "60", "--config.grown_data=True"):
        check_identity(meta(40), meta(60), ROOT, (), None)


@pytest.mark.parametrize("new", [meta(39), meta(60, ["a", "b"]), meta(60, ["a", "c", "d"])])
def test_fewer_images_and_other_classes_are_refused(new: dict[str, Any]) -> None:
    with raises_naming("runs/mine") as raised:
        check_identity(meta(40, ["a", "c"]), new, ROOT, (), state())
    assert "grown_data" not in str(raised.value)


def test_rows_of_images_cannot_grow() -> None:
    with raises_naming("config.grown_data", "extra/labels", "--config.init.weights=runs/mine"):
        check_identity(meta(40, rows=40), meta(60), ROOT, (), state(60))


def test_other_names_are_compared() -> None:
    old, new = ({**meta(40), "backbone": digest} for digest in ("1", "2"))
    with raises_naming("backbone"):
        check_identity(old, new, ROOT, ("backbone",), state())
