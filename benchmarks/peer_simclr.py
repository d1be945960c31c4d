"""The training step of stable-pretraining's SimCLR on its JAX backend, as its own trainer takes it, without the trainer's work around it.

Needs `pip install stable-pretraining[jax]`; its JAX backend alone is imported, which of the rest wants loguru and omegaconf.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import stable_pretraining.jax as spj
from flax import nnx
from stable_pretraining.jax.trainer import _train_step


def peer_steps(arch: str, batch: int, size: int, dtype: str, *, small: bool) -> Callable[[int], None]:
    """Takes so many steps on two views of noise that lie on the device, and waits for the last.

    Args:
      arch: resnet18, resnet34, resnet50, ...
      batch: images.
      size: side of a view in pixels.
      dtype: compute dtype.
      small: its stem for small images, else ImageNet's.
    """
    rngs, compute = nnx.Rngs(0), None if dtype == "float32" else jnp.dtype(dtype)
    backbone = getattr(spj.backbone, arch)(rngs=rngs, low_resolution=small, dtype=compute)
    sgd = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.03, momentum=0.9))
    # the projection of this library's SimCLR
    module = spj.SimCLR(
        backbone=backbone,
        embed_dim=backbone.embed_dim,
        rngs=rngs,
        projector_dims=(2048, 128),
        temperature=0.1,
        optim=sgd,
        dtype=compute,
    )
    optimizer = nnx.Optimizer(module, sgd, wrt=nnx.Param)
    noise = np.random.default_rng(0).standard_normal((2, batch, size, size, 3), np.float32)
    views = {"views": [{"image": jnp.asarray(view)} for view in noise]}

    def take(count: int) -> None:
        logs = None
        for _ in range(count):
            _, logs = _train_step(module, optimizer, views)
        jax.block_until_ready(logs)

    return take
