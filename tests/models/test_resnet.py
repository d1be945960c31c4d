"""The backbones: sizes, names, dtypes, and that the functional boundary holds under JAX's transformations."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.export
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax import models
from jigclu_jax.errors import UserError
from jigclu_jax.models import Functional, convolution

KEY = jax.random.key(0)

# torchvision's published parameter counts, less those of fc (1000 classes)
COUNTS = {
    "resnet10": (5_418_792, 512),
    "resnet18": (11_689_512, 512),
    "resnet34": (21_797_672, 512),
    "resnet50": (25_557_032, 2048),
    "resnet101": (44_549_160, 2048),
    "resnet152": (60_192_808, 2048),
    "resnext50_32x4d": (25_028_904, 2048),
    "resnext101_32x8d": (88_791_336, 2048),
    "wide_resnet50_2": (68_883_240, 2048),
    "wide_resnet101_2": (126_886_696, 2048),
}


@pytest.fixture(scope="module")
def tiny() -> Functional:
    return models.build_backbone({"arch": "resnet10", "stem": "small", "width": 0.0625})


@pytest.fixture(scope="module")
def trees(tiny: Functional) -> tuple[Any, Any]:
    return jax.jit(tiny.init)(KEY)


def test_every_architecture_is_counted() -> None:
    assert set(COUNTS) == set(models.ARCHITECTURES)


@pytest.mark.parametrize("arch", COUNTS)
def test_parameter_counts(arch: str) -> None:
    total, dim = COUNTS[arch]
    backbone = models.build_backbone({"arch": arch})
    params, _ = jax.eval_shape(backbone.init, KEY)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == total - (dim + 1) * 1000
    assert backbone.dim == dim


@pytest.mark.parametrize(("arch", "dim"), [("resnet34", 512), ("resnet50", 2048), ("resnext50_32x4d", 2048), ("wide_resnet50_2", 2048)])
def test_map_of_an_imagenet_crop(arch: str, dim: int) -> None:
    backbone = models.build_backbone({"arch": arch})
    params, stats = jax.eval_shape(backbone.init, KEY)
    y, new = jax.eval_shape(lambda p, s, x: backbone.apply(p, s, x, True), params, stats, jax.ShapeDtypeStruct((2, 224, 224, 3), "float32"))
    assert (y.maps[-1].shape, y.maps[-1].dtype) == ((2, 7, 7, dim), jnp.float32)
    assert (y.features.shape, y.features.dtype) == ((2, dim), jnp.float32)
    for found, channels, stride in zip(y.maps, backbone.channels, backbone.strides, strict=True):
        assert found.shape == (2, 224 // stride, 224 // stride, channels)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), new) == jax.tree.map(lambda a: (a.shape, a.dtype), stats)


@pytest.mark.parametrize(("stem", "sides"), [("imagenet", {64: 2, 96: 3, 112: 4, 225: 8}), ("small", {32: 4, 33: 5, 64: 8, 96: 12})])
def test_sides_of_the_map(stem: str, sides: dict[int, int]) -> None:
    backbone = models.build_backbone({"arch": "resnet18", "stem": stem, "width": 0.0625})
    trees = jax.eval_shape(backbone.init, KEY)
    for side, expected in sides.items():
        y, _ = jax.eval_shape(lambda p, s, x: backbone.apply(p, s, x, False), *trees, jax.ShapeDtypeStruct((1, side, side, 3), "float32"))
        assert y.maps[-1].shape == (1, expected, expected, backbone.dim)
        assert [found.shape[1] for found in y.maps] == [-(-side // stride) for stride in backbone.strides]


def test_trees_are_dicts_with_string_keys(trees: tuple[Any, Any]) -> None:
    params, stats = trees

    def check(node: object) -> None:
        if isinstance(node, dict):
            assert type(node) is dict
            for name, child in node.items():
                assert type(name) is str
                check(child)
        else:
            assert isinstance(node, jax.Array)

    check(params)
    check(stats)
    assert params["layer1"]["block0"]["conv1"]["kernel"].shape == (3, 3, 4, 4)
    assert set(params["layer2"]["block0"]["downsample"]) == {"conv", "bn"}
    assert "downsample" not in params["layer1"]["block0"]
    assert set(stats["bn1"]) == {"mean", "var"}


@pytest.mark.parametrize("width", [0.01, 0.3])
@pytest.mark.parametrize("arch", ["resnet18", "resnext50_32x4d"])
def test_any_width_has_valid_channels(arch: str, width: float) -> None:
    backbone = models.build_backbone({"arch": arch, "width": width})
    params, stats = jax.eval_shape(backbone.init, KEY)
    y, _ = jax.eval_shape(lambda p, s, x: backbone.apply(p, s, x, True), params, stats, jax.ShapeDtypeStruct((2, 64, 64, 3), "float32"))
    assert y.maps[-1].shape == (2, 2, 2, backbone.dim)
    assert params["conv1"]["kernel"].shape[-1] == max(1, round(64 * width))
    if arch == "resnext50_32x4d":
        per_group, inner = params["layer1"]["block0"]["conv2"]["kernel"].shape[2:]
        assert (per_group, inner) == (max(1, round(4 * width)), 32 * max(1, round(4 * width)))


def test_the_stride_of_a_bottleneck_is_on_its_3x3() -> None:
    backbone = models.build_backbone({"arch": "resnet50", "width": 0.0625})
    trees = jax.eval_shape(backbone.init, KEY)
    jaxpr = jax.make_jaxpr(lambda p, s, x: backbone.apply(p, s, x, False))(*trees, jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
    strided = [
        eqn.invars[1].aval.shape[:2]
        for eqn in equations(jaxpr.jaxpr)
        if eqn.primitive.name == "conv_general_dilated" and eqn.params["window_strides"] == (2, 2)
    ]
    assert strided == [(7, 7), (3, 3), (3, 3), (3, 3)]


def test_evaluation_returns_the_same_statistics_and_training_new_ones(tiny: Functional, trees: tuple[Any, Any]) -> None:
    params, stats = trees
    x = jax.random.normal(KEY, (4, 16, 16, 3))
    apply = jax.jit(tiny.apply, static_argnums=3)
    evaluated, same = apply(params, stats, x, False)
    trained, new = apply(params, stats, x, True)
    jax.tree.map(np.testing.assert_array_equal, stats, same)
    assert all(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(new), strict=True))
    assert not np.allclose(evaluated.features, trained.features)
    np.testing.assert_allclose(evaluated.features, evaluated.maps[-1].mean((1, 2)), atol=1e-6)
    # one image alone gives in evaluation what it gives in the batch
    alone = apply(params, stats, x[1:2], False)[0]
    jax.tree.map(lambda one, all_: np.testing.assert_allclose(one, all_[1:2], atol=1e-5), alone, evaluated)


def test_apply_changes_no_tree_of_its_caller(tiny: Functional, trees: tuple[Any, Any]) -> None:
    before = jax.tree.leaves(trees)
    jax.eval_shape(lambda x: tiny.apply(*trees, x, True), jnp.ones((2, 16, 16, 3)))
    assert all(old is new for old, new in zip(before, jax.tree.leaves(trees), strict=True))


def test_apply_changes_no_numpy_array_of_its_caller() -> None:
    """As imported weights are; a few layers with BatchNorm, each operation by itself."""
    network = models.create_mlp((4, 6, 3), norm_last=True)
    params, stats = jax.tree.map(np.array, jax.jit(network.init)(KEY))
    before = jax.tree.map(np.copy, stats)
    x = jax.random.normal(KEY, (8, 4))
    _, after = network.apply(params, stats, x, True)
    jax.tree.map(np.testing.assert_array_equal, before, stats)
    assert all(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True))
    jax.jit(jax.grad(lambda p: network.apply(p, stats, x, True)[0].sum()))(params)


def test_training_gradient_lowers_for_accelerators() -> None:
    """The small stem is in tests/test_configs.py."""
    backbone = models.build_backbone({"arch": "resnet50", "width": 0.0625, "dtype": "bfloat16"})
    params, stats = jax.eval_shape(backbone.init, KEY)
    gradient = jax.jit(jax.grad(lambda p, s, x: backbone.apply(p, s, x, True)[0].features.sum()))
    exported = jax.export.export(gradient, platforms=["tpu", "cuda"])(params, stats, jax.ShapeDtypeStruct((8, 64, 64, 3), "float32"))
    assert exported.platforms == ("tpu", "cuda")
    # one for each strided 1x1 convolution, and its derivative: without, the compiler for GPUs dies; two for each BatchNorm
    assert exported.mlir_module().count("optimization_barrier") >= 6 + 2 * 53


def test_bfloat16_computes_close_to_float32_with_float32_parameters(tiny: Functional, trees: tuple[Any, Any]) -> None:
    half = models.build_backbone({"arch": "resnet10", "stem": "small", "width": 0.0625, "dtype": "bfloat16"})
    params, stats = trees
    assert jax.eval_shape(half.init, KEY) == jax.eval_shape(tiny.init, KEY)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(trees)} == {"float32"}
    x = jax.random.normal(KEY, (4, 16, 16, 3))
    y, new = jax.jit(tiny.apply, static_argnums=3)(params, stats, x, True)
    rough, rough_new = jax.jit(half.apply, static_argnums=3)(params, stats, x, True)
    assert {found.dtype for found in rough.maps} == {jnp.dtype("bfloat16")} and rough.features.dtype == jnp.float32
    assert {leaf.dtype.name for leaf in jax.tree.leaves(rough_new)} == {"float32"}
    difference = np.asarray(rough.maps[-1], np.float32) - np.asarray(y.maps[-1])
    assert 0 < np.sqrt((difference**2).mean()) < 0.05 * np.asarray(y.maps[-1]).std()
    np.testing.assert_allclose(rough_new["bn1"]["var"], new["bn1"]["var"], rtol=2e-3)


@pytest.mark.parametrize("precision", models.PRECISIONS)
def test_every_product_forward_and_backward_has_the_precision_asked_for(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "LARGE_INPUT", 0)
    backbone = models.build_backbone({"arch": "resnet50", "width": 0.05, "precision": precision})
    params, stats = jax.eval_shape(backbone.init, KEY)
    gradient = jax.grad(lambda p, s, x: backbone.apply(p, s, x, True)[0].features.sum())
    with jax.default_matmul_precision(None):  # on an accelerator the tests run under "highest"
        jaxpr = jax.make_jaxpr(gradient)(params, stats, jax.ShapeDtypeStruct((1, 64, 64, 3), "float32"))
    products = [eqn for eqn in equations(jaxpr.jaxpr) if eqn.primitive.name in ("conv_general_dilated", "dot_general")]
    assert len(products) >= 3 * 53 - 1, "each of the 53 convolutions and its derivatives, but the one by the pixels"
    assert {"HIGHEST" in str(eqn.params["precision"]) for eqn in products} == {precision == "highest"}


def test_a_stem_on_squares_of_pixels_has_the_same_weights_and_numbers() -> None:
    plain, squares = (models.build_backbone({"arch": "resnet10", "width": 0.05, "space_to_depth": chosen}) for chosen in (False, True))
    params, stats = jax.jit(plain.init)(KEY)
    assert jax.tree.structure(jax.eval_shape(squares.init, KEY)) == jax.tree.structure((params, stats))
    x = jax.random.normal(KEY, (2, 63, 64, 3))
    one, other = (jax.jit(backbone.apply, static_argnums=3)(params, stats, x, False)[0] for backbone in (plain, squares))
    np.testing.assert_allclose(one.features, other.features, atol=1e-5)


def equations(jaxpr: Any) -> Iterator[Any]:
    """Those of a program, and of all programs inside it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.extend.core.jaxprs_in_params(eqn.params):
            yield from equations(inner)


def test_seeds_give_different_backbones(tiny: Functional, trees: tuple[Any, Any]) -> None:
    one, again, other = trees[0], jax.jit(tiny.init)(KEY)[0], jax.jit(tiny.init)(jax.random.key(1))[0]
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert not np.array_equal(one["conv1"]["kernel"], other["conv1"]["kernel"])
    assert not np.array_equal(one["layer1"]["block0"]["conv1"]["kernel"], one["layer1"]["block0"]["conv2"]["kernel"])


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"arch": "resnet5"}, 'model.arch="resnet5" is unknown: did you mean "resnet50"'),
        ({"arch": "resnet18", "stem": "smal"}, 'model.stem="smal" is unknown: did you mean "small"'),
        ({"arch": "resnet18", "dtype": "bfloat"}, 'model.dtype="bfloat" is unknown: did you mean "bfloat16"'),
        ({"arch": "resnet18", "dtype": "float64"}, "JAX_ENABLE_X64"),
        ({"arch": "resnet18", "precision": "high"}, 'model.precision="high" is unknown: did you mean "highest"'),
        ({"arch": "resnet18", "width": 0.0}, "model.width=0.0"),
        ({"arch": "resnet18", "width": float("nan")}, "model.width=nan"),
    ],
)
def test_mistakes_are_told_in_one_line(kwargs: dict[str, str | float], text: str) -> None:
    with pytest.raises(UserError) as caught:
        models.build_backbone(kwargs)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
