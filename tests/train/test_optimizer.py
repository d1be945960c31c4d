"""SGD against a transcription of PyTorch's rule, and the step that applies it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jigclu_jax.config import optimizer_config
from jigclu_jax.train.optimizer import create_optimizer


@pytest.mark.parametrize(("momentum", "decay"), [(0.9, 1e-2), (0.9, 0.0), (0.0, 1e-2), (0.0, 0.0)])
def test_sgd_is_pytorchs(momentum: float, decay: float) -> None:
    config = optimizer_config()
    config.momentum, config.weight_decay = momentum, decay
    optimizer = create_optimizer(config)
    rng = np.random.default_rng(0)
    ours = {"kernel": jnp.asarray(rng.normal(size=(3, 2))), "bias": jnp.asarray(rng.normal(size=2))}
    theirs = {name: np.asarray(value, np.float64) for name, value in ours.items()}
    buffers: dict[str, np.ndarray] = {}
    state = optimizer.init(ours)
    for step in range(5):
        rate = 0.1 / (step + 1)  # a changing rate: PyTorch multiplies after the momentum
        gradient = {name: rng.normal(size=value.shape) for name, value in theirs.items()}
        direction, state = optimizer.update({name: jnp.asarray(value, jnp.float32) for name, value in gradient.items()}, state, ours)
        ours = jax.tree.map(lambda p, d, rate=rate: p - rate * d, ours, direction)
        for name in theirs:
            g = gradient[name] + decay * theirs[name]
            buffers[name] = momentum * buffers[name] + g if name in buffers else g
            theirs[name] = theirs[name] - rate * buffers[name]
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-5, atol=2e-6)
