"""The relative error of every golden number of one file, computed in float64: JAX's float64 has to be on."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden import authors_numbers as authors

from jigclu_jax.interop import to_authors
from jigclu_jax.losses import clustering_loss


def float64_errors(file: str) -> dict[str, float]:
    """Name of each number of the file -> error relative to it."""
    return loss_alone() if file == "loss.npz" else whole_training(file)


def loss_alone() -> dict[str, float]:
    """loss.npz: the clustering loss and its gradient."""
    with np.load(authors.FOLDER / "loss.npz") as archive:
        g = dict(archive)
    function = jax.value_and_grad(
        lambda x: clustering_loss(x, jnp.asarray(g["labels"]), float(g["temperature"]), float(g["base_temperature"]))
    )
    loss, grad = function(jnp.asarray(g["features"]))
    return {"loss": authors.relative(loss, g["loss"]), "grad": authors.relative(grad, g["grad"])}


def whole_training(file: str) -> dict[str, float]:
    """Outputs and gradient norms of step 0, losses of every step, parameters and statistics after all steps of SGD."""
    config, arrays = authors.load(file)
    network = authors.Network(config, "float64")
    params, stats = jax.device_get(network.weights())
    gradient = jax.jit(jax.value_and_grad(network.loss, has_aux=True))
    velocity: Any = None
    errors: dict[str, float] = {}
    for step in range(config["steps"]):
        batch = authors.golden_batch(config, step)
        (_, ((clu, loc), outputs, new_stats)), grads = jax.device_get(
            gradient(params, stats, jnp.asarray(batch.image, "float64"), jnp.asarray(batch.cluster), jnp.asarray(batch.location))
        )
        if step == 0:
            errors |= dict(authors.output_errors(arrays, batch, clu, loc, outputs))
            for name, value in to_authors(grads, stats).items():
                if f"grad_norm/{name}" in arrays:
                    errors[f"grad_norm/{name}"] = authors.relative(np.linalg.norm(value), arrays[f"grad_norm/{name}"])
        else:
            for name, value in {"loss_clu": clu, "loss_loc": loc, "permutation": batch.permutation}.items():
                errors[f"step{step}/{name}"] = authors.relative(value, arrays[f"step{step}/{name}"])
        decayed = jax.tree.map(lambda g, p: g + config["weight_decay"] * p, grads, params)
        velocity = decayed if velocity is None else jax.tree.map(lambda v, g: config["momentum"] * v + g, velocity, decayed)
        params = jax.tree.map(lambda p, v: p - config["lr"] * v, params, velocity)
        stats = new_stats
    for name, value in to_authors(params, stats).items():
        if not name.endswith("num_batches_tracked"):
            errors[f"final_norm/{name}"] = authors.relative(np.linalg.norm(value), arrays[f"final_norm/{name}"])
            errors[f"final_head/{name}"] = authors.relative(value.reshape(-1)[:5], arrays[f"final_head/{name}"])
    left = sorted(set(arrays) - set(errors))
    if left:
        raise AssertionError(f"{file} holds numbers that were not compared: {left[:5]}")
    return errors
