"""Which backbone lies in a file, told by names alone: any prefix, three layouts, never a part of one."""

import numpy as np
import pytest
from named_errors import raises_naming

from jigclu_jax import models
from jigclu_jax.errors import UserError
from jigclu_jax.interop.layouts import candidates, choose, from_detectron2, groups, to_detectron2
from jigclu_jax.interop.torchvision import to_torchvision
from jigclu_jax.interop.weights import load_weights


def names_of(arch: str) -> list[str]:
    import jax

    shapes = jax.eval_shape(models.build_backbone({"arch": arch, "width": 0.05}).init, jax.random.key(0))
    return list(to_torchvision(*jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.int8), shapes)))


RESNET18, RESNET50 = names_of("resnet18"), names_of("resnet50")
LAYOUTS = ("torchvision", "shortcut", "detectron2", "sequential 2", "sequential 3", "sequential 4")


def sequential(name: str, first: int) -> str:
    head, _, rest = name.partition(".")
    numbers = {"conv1": 0, "bn1": 1} | {f"layer{i + 1}": first + i for i in range(4)}
    return shortcut(f"{numbers[head]}.{rest}") if first == 2 else f"{numbers[head]}.{rest}"


def shortcut(name: str) -> str:
    """As lightly's own ResNets have it."""
    return name.replace("downsample", "shortcut")


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "module.module.",
        "state_dict.module.encoder_q.",
        "teacher.backbone.",
        "classy.base_model.trunk._feature_blocks.",
    ],
)
@pytest.mark.parametrize("names", [RESNET18, RESNET50], ids=["resnet18", "resnet50"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_prefix_and_layout(prefix: str, names: list[str], layout: str) -> None:
    other = {"torchvision": str, "shortcut": shortcut, "detectron2": to_detectron2}.get(layout) or (
        lambda name: sequential(name, int(layout[-1]))
    )
    stored = {name: prefix + other(name) for name in names}
    beside = [f"{prefix}fc.weight", "optimizer.state.0.momentum_buffer", "queue"]
    chosen = choose(candidates([*stored.values(), *beside]), "", [])
    assert (chosen.prefix, chosen.layout) == (prefix, layout.split()[0].replace("shortcut", "torchvision"))
    counted = {name: where for name, where in stored.items() if not name.endswith("num_batches_tracked")}
    assert dict(chosen.names) == counted
    assert chosen.left == (f"{prefix}fc.weight", *(["optimizer.state.0.momentum_buffer", "queue"] if not prefix else []))


def test_what_wrappers_put_between_the_names() -> None:
    wrapped = [f"_fsdp_wrapped_module.{name.replace('layer2.0.', 'layer2.0._checkpoint_wrapped_module.')}" for name in RESNET18]
    assert choose(candidates(wrapped), "", []).complete
    with raises_naming("conv1.weight", "_orig_mod.conv1.weight"):
        candidates([*RESNET18, "_orig_mod.conv1.weight"])


def test_two_are_asked_about() -> None:
    both = [f"student.{name}" for name in RESNET18] + [f"teacher.backbone.{name}" for name in RESNET18]
    found = candidates(both)
    with raises_naming("'student'", "'teacher.backbone'"):
        choose(found, "", both)
    for asked, prefix in (("teacher", "teacher.backbone."), ("backbone", "teacher.backbone."), ("student.", "student.")):
        assert choose(found, asked, both).prefix == prefix
    with raises_naming("'dean'", "'student'"):
        choose(found, "dean", both)
    assert groups(["student.fc.weight", "student.fc.bias", *both[120:]], "student.") == ["student.fc (2 arrays)", "teacher (120 arrays)"]


@pytest.mark.parametrize("name", [name for name in RESNET18 if not name.endswith("num_batches_tracked")])
def test_a_dropped_or_renamed_array_is_named(name: str) -> None:
    rest = [other for other in RESNET18 if other != name]
    with raises_naming(name):
        choose(candidates(rest), "", rest)
    with raises_naming(name):
        choose(candidates([*rest, f"{name}_"]), "", rest)


@pytest.mark.parametrize(
    "more",
    ["layer2.0.shortcut.0.weight", "layer5.0.conv1.weight", "layer1.0.se.fc1.weight", "conv1.bias", "bn2.weight", "layer1.2.conv1.weight"],
)
def test_a_network_with_more_than_a_resnet_has_is_none(more: str) -> None:
    with raises_naming(more):
        choose(candidates([*RESNET18, more]), "", RESNET18)


def test_another_network_is_none() -> None:
    with raises_naming("blocks.0.attn.qkv.weight"):
        choose(candidates(["blocks.0.attn.qkv.weight"]), "", ["blocks.0.attn.qkv.weight"])


def test_detectron2_names_there_and_back() -> None:
    table = {
        "conv1.weight": "stem.conv1.weight",
        "bn1.running_var": "stem.conv1.norm.running_var",
        "layer1.0.conv1.weight": "res2.0.conv1.weight",
        "layer4.2.bn3.bias": "res5.2.conv3.norm.bias",
        "layer2.0.downsample.0.weight": "res3.0.shortcut.weight",
        "layer2.0.downsample.1.weight": "res3.0.shortcut.norm.weight",
    }
    assert {name: to_detectron2(name) for name in table} == table
    assert [from_detectron2(to_detectron2(name)) for name in RESNET50] == RESNET50


@pytest.mark.parametrize(("count", "how"), [(1, "mean"), (1, "repeat"), (4, "mean"), (4, "repeat"), (2, "repeat")])
def test_another_number_of_channels_is_named_and_brought_to_three(tmp_path, count: int, how: str) -> None:
    import jax

    trees = jax.eval_shape(models.build_backbone({"arch": "resnet18", "width": 0.0625}).init, jax.random.key(0))
    state = to_torchvision(*jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), trees))
    kernel = np.random.default_rng(0).standard_normal((4, count, 7, 7)).astype(np.float32)
    np.savez(tmp_path / "w.npz", **state | {"conv1.weight": kernel})
    with pytest.raises(UserError, match=f"conv1.weight takes {count} channels"):
        load_weights(tmp_path / "w.npz")
    found = load_weights(tmp_path / "w.npz", channels=how).params["conv1"]["kernel"].transpose(3, 2, 0, 1)
    order = [0] * 3 if how == "mean" else [i % count for i in range(3)]
    expected = (kernel.mean(1, keepdims=True) if how == "mean" else kernel)[:, order] * count / 3
    np.testing.assert_allclose(found, expected, rtol=1e-6)
