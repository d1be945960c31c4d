"""Our modules against torchvision's with the same weights, at every stage: numbers that PyTorch gave (`tests/golden/torch_numbers.py`)."""

import jax
import numpy as np
import pytest
from golden import torch_numbers
from interop.test_torchvision import torchvision_shapes

from jigclu_jax import models
from jigclu_jax.interop import from_torchvision
from jigclu_jax.ops.normalize import normalize

SLOW = {arch: pytest.mark.slow for arch in torch_numbers.ARCHITECTURES[1:]}


@pytest.mark.parametrize("arch", [pytest.param(arch, marks=SLOW.get(arch, ())) for arch in torch_numbers.ARCHITECTURES])
def test_every_stage_is_torchvisions(arch: str) -> None:
    state = {name: torch_numbers.drawn(name, shape) for name, shape in torchvision_shapes(arch).items() if shape}
    backbone = models.build_backbone({"arch": arch})
    stages, _ = jax.jit(lambda params, stats, x: backbone.apply(params, stats, normalize(x, "float32"), False))(
        *from_torchvision(state), torch_numbers.pictures()
    )
    with np.load(torch_numbers.STAGES) as golden:
        for i, stage in enumerate(stages.maps):
            expected = golden[f"{arch}_{i}"]
            np.testing.assert_allclose(torch_numbers.places(np.asarray(stage)), expected, rtol=0, atol=1e-4 * expected[-1])
