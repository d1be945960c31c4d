"""Names and shapes against what torchvision's ResNet constructor builds, and there and back again."""

from typing import Any

import jax
import numpy as np
import pytest
from named_errors import raises_naming

from jigclu_jax import models
from jigclu_jax.interop import from_torchvision, to_torchvision

KEY = jax.random.key(0)

# arch -> (blocks, expansion, groups, width of a group, number of keys without fc)
TORCHVISION = {
    "resnet18": ([2, 2, 2, 2], 1, 1, 64, 120),
    "resnet34": ([3, 4, 6, 3], 1, 1, 64, 216),
    "resnet50": ([3, 4, 6, 3], 4, 1, 64, 318),
    "resnet101": ([3, 4, 23, 3], 4, 1, 64, 624),
    "resnet152": ([3, 8, 36, 3], 4, 1, 64, 930),
    "resnext50_32x4d": ([3, 4, 6, 3], 4, 32, 4, 318),
    "resnext101_32x8d": ([3, 4, 23, 3], 4, 32, 8, 624),
    "wide_resnet50_2": ([3, 4, 6, 3], 4, 1, 128, 318),
    "wide_resnet101_2": ([3, 4, 23, 3], 4, 1, 128, 624),
}


def torchvision_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """The state dict's keys in order, with shapes, as the constructor's loops make them."""
    blocks, expansion, groups, group_width, _ = TORCHVISION[arch]
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, channels: int) -> None:
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{leaf}"] = (channels,)
        shapes[f"{name}.num_batches_tracked"] = ()

    shapes["conv1.weight"] = (64, 3, 7, 7)
    norm("bn1", 64)
    inplanes = 64
    for stage, count in enumerate(blocks):
        planes = 64 * 2**stage
        for block in range(count):
            at = f"layer{stage + 1}.{block}"
            if expansion == 1:
                convolutions = [(planes, inplanes, 3), (planes, planes, 3)]
            else:
                width = int(planes * (group_width / 64.0)) * groups
                convolutions = [(width, inplanes, 1), (width, width // groups, 3), (planes * 4, width, 1)]
            for i, (out, into, size) in enumerate(convolutions, start=1):
                shapes[f"{at}.conv{i}.weight"] = (out, into, size, size)
                norm(f"{at}.bn{i}", out)
            if block == 0 and (stage > 0 or inplanes != planes * expansion):
                shapes[f"{at}.downsample.0.weight"] = (planes * expansion, inplanes, 1, 1)
                norm(f"{at}.downsample.1", planes * expansion)
            inplanes = planes * expansion
    return shapes


def filled(trees: Any, seed: int = 0) -> Any:
    """The same trees with a different number in every place."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), trees)


@pytest.mark.parametrize("arch", TORCHVISION)
def test_names_and_shapes(arch: str) -> None:
    trees = jax.eval_shape(models.build_backbone({"arch": arch}).init, KEY)
    # in bytes: the widest backbone would fill half a gigabyte in float32
    state = to_torchvision(*jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int8), trees))
    expected = torchvision_shapes(arch)
    assert {name: value.shape for name, value in state.items()} == expected
    assert list(state) == list(expected)
    assert len(state) == TORCHVISION[arch][4]


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_there_and_back(arch: str) -> None:
    trees = filled(jax.eval_shape(models.build_backbone({"arch": arch, "stem": "small", "width": 0.0625}).init, KEY))
    state = to_torchvision(*trees)
    again = from_torchvision({**state, "fc.weight": np.zeros((10, 4)), "fc.bias": np.zeros(10)})
    assert jax.tree.structure(again) == jax.tree.structure(trees)
    jax.tree.map(np.testing.assert_array_equal, trees, again)


def test_places_and_axes() -> None:
    params, stats = filled(jax.eval_shape(models.build_backbone({"arch": "resnet50", "width": 0.0625}).init, KEY))
    state = to_torchvision(params, stats)
    kernel = params["layer2"]["block1"]["conv2"]["kernel"]
    assert state["layer2.1.conv2.weight"][5, 3, 2, 1] == kernel[2, 1, 3, 5]
    np.testing.assert_array_equal(state["layer3.0.downsample.1.weight"], params["layer3"]["block0"]["downsample"]["bn"]["scale"])
    np.testing.assert_array_equal(state["layer4.2.bn3.running_var"], stats["layer4"]["block2"]["bn3"]["var"])
    assert all(value.flags.c_contiguous for value in state.values())


def test_an_old_checkpoint_without_batch_counts_loads() -> None:
    trees = filled(jax.eval_shape(models.build_backbone({"arch": "resnet18", "width": 0.0625}).init, KEY))
    state = {name: value for name, value in to_torchvision(*trees).items() if not name.endswith("num_batches_tracked")}
    jax.tree.map(np.testing.assert_array_equal, trees, from_torchvision(state))


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    return to_torchvision(*filled(jax.eval_shape(models.build_backbone({"arch": "resnet18", "width": 0.0625}).init, KEY)))


def test_missing_and_unexpected_keys_are_named(state: dict[str, np.ndarray]) -> None:
    broken = {name: value for name, value in state.items() if not name.startswith("layer4.1.conv2")} | {"layer9.weight": np.zeros(1)}
    with raises_naming("layer4.1.conv2.weight", "layer9.weight"):
        from_torchvision(broken)


def test_a_missing_block_is_named(state: dict[str, np.ndarray]) -> None:
    with raises_naming("layer4.1.bn1.bias", " 4 "):
        from_torchvision({name: value for name, value in state.items() if not name.startswith("layer4.1.")})


def test_something_else_is_refused() -> None:
    with raises_naming("bn1.bias"):
        from_torchvision({"blocks.0.weight": np.zeros((2, 2))})
    with raises_naming("kernel"):
        to_torchvision({"kernel": np.zeros((2, 2))}, {})


def test_shapes_that_do_not_go_together_are_named(state: dict[str, np.ndarray]) -> None:
    with raises_naming("layer1.0.bn2.running_mean", "(5,)"):
        from_torchvision({**state, "layer1.0.bn2.running_mean": np.zeros(5)})
    with raises_naming("conv1.weight", "(4, 3)"):
        from_torchvision({**state, "conv1.weight": np.zeros((4, 3))})


def test_arrays_are_copies(state: dict[str, np.ndarray]) -> None:
    params, _ = from_torchvision(state)
    before = state["bn1.weight"].copy()
    params["bn1"]["scale"][:] = -1
    np.testing.assert_array_equal(state["bn1.weight"], before)
