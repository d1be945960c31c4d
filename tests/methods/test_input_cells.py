"""Pretraining on cells as images of their own: the comparison of the paper's ablation, against cells cut by hand."""

import jax
import numpy as np

from jigclu_jax.config import pretrain_config
from jigclu_jax.methods import DataFacts
from jigclu_jax.methods.jigclu import JigClu, create

FACTS = DataFacts(80, None, 8, 10)


def method(kind: str, grid: int = 2) -> JigClu:
    config = pretrain_config()
    config.model.update({"arch": "resnet10", "stem": "small", "width": 0.05})
    config.method.grid, config.method.input, config.data.image_size = grid, kind, 24
    found: JigClu = create(config, FACTS)
    return found


def test_a_cells_vector_is_that_of_its_own_image() -> None:
    grid = 3
    apart = method("cells", grid)
    params, stats, _ = jax.jit(lambda key: apart.init(key, FACTS))(jax.random.key(0))
    side = 8
    montages = np.random.default_rng(0).normal(size=(2, grid * side, grid * side, 3)).astype(np.float32)
    vectors, embeddings, logits, _ = jax.jit(apart.outputs, static_argnums=3)(params, stats, montages, False)
    forward = jax.jit(lambda image: apart.backbone.apply(params["backbone"], stats["backbone"], image, False)[0].maps[-1])
    k = grid * grid
    assert (vectors.shape[0], embeddings.shape, logits.shape) == (2 * k, (2 * k, 128), (2 * k, k))
    for row in range(2 * k):
        montage, cell = divmod(row, k)
        y, x = divmod(cell, grid)  # row-major, as the label grids are
        image = montages[montage : montage + 1, y * side : (y + 1) * side, x * side : (x + 1) * side]
        np.testing.assert_allclose(vectors[row], np.asarray(forward(image)).mean((1, 2))[0], rtol=1e-4, atol=1e-5)


def test_cells_of_a_montage_do_not_see_each_other_and_do_in_a_montage() -> None:
    rng = np.random.default_rng(1)
    first = rng.normal(size=(1, 16, 16, 3)).astype(np.float32)
    second = first.copy()
    second[:, 8:, 8:] = rng.normal(size=(1, 8, 8, 3))
    params, stats, _ = jax.jit(lambda key: method("cells").init(key, FACTS))(jax.random.key(0))
    for kind, alike in (("cells", True), ("montage", False)):
        outputs = jax.jit(method(kind).outputs, static_argnums=3)
        before, after = (np.asarray(outputs(params, stats, images, False)[0]) for images in (first, second))
        assert np.array_equal(before[:3], after[:3]) is alike
        assert not np.allclose(before[3], after[3])
