"""The authors' checkpoints: names, prefixes, heads. The golden test proves the values through the same functions."""

from typing import Any

import jax
import numpy as np
import pytest
from named_errors import raises_naming

from jigclu_jax import models
from jigclu_jax.interop import from_authors, to_authors


@pytest.fixture(scope="module")
def trees() -> Any:
    backbone = models.build_backbone({"arch": "resnet18", "width": 0.0625})

    def init(key: jax.Array) -> Any:
        params, stats = backbone.init(key)
        heads = {
            "projection": models.create_projection(backbone.dim, 16).init(key)[0],
            "location": models.create_linear(backbone.dim, 4).init(key)[0],
        }
        return {"backbone": params, **heads}, {"backbone": stats}

    return jax.tree.map(np.asarray, jax.jit(init)(jax.random.key(0)))


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "module.encoder."])
@pytest.mark.parametrize("whole_checkpoint", [False, True])
def test_there_and_back(trees: Any, prefix: str, whole_checkpoint: bool) -> None:
    state = {prefix + name: value for name, value in to_authors(*trees).items()}
    again = from_authors({"epoch": 200, "arch": "resnet18", "state_dict": state} if whole_checkpoint else state)
    assert jax.tree.structure(again) == jax.tree.structure(trees)
    jax.tree.map(np.testing.assert_array_equal, trees, again)


def test_heads_have_pytorch_layout(trees: Any) -> None:
    state = to_authors(*trees)
    assert {name: value.shape for name, value in state.items() if name.startswith("fc")} == {
        "fc_clu.0.weight": (32, 32),
        "fc_clu.0.bias": (32,),
        "fc_clu.2.weight": (16, 32),
        "fc_clu.2.bias": (16,),
        "fc_loc.weight": (4, 32),
        "fc_loc.bias": (4,),
    }
    assert state["fc_clu.2.weight"][3, 7] == trees[0]["projection"]["output"]["kernel"][7, 3]


def test_mistakes_are_named(trees: Any) -> None:
    state = to_authors(*trees)
    with raises_naming("fc_loc.bias", "from_torchvision"):
        from_authors({name: value for name, value in state.items() if name != "fc_loc.bias"})
    with raises_naming("fc_loc", "(4, 32)", "(5,)"):
        from_authors({**state, "fc_loc.bias": np.zeros(5)})
    with raises_naming("queue"):
        from_authors({**state, "queue": np.zeros(5)})
