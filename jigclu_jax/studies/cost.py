"""What an image costs a method: u, forward passes of the backbone over a full-size image, counted in FLOPs of the lowered programs."""

import os
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config import check_config, read_config
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.errors import UserError
from jigclu_jax.methods import DataFacts, Method, batch_shapes, create_method
from jigclu_jax.train.checkpoint import read_checkpoint
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state
from jigclu_jax.train.step import Update, compile_step


def u_per_image(config: ConfigDict, facts: DataFacts) -> float:
    """u that training on one image once costs: FLOPs of the step (forward, backward, update) for each image of its batch, over those of the
    backbone's forward pass of one image of `config.online.eval_data.crop` pixels a side.

    Nothing is compiled: the operations are those that the method asks for, whatever the compiler merges. A method that looks at frozen
    features of all images between epochs (`before_epoch`) is charged one pass more an epoch, which is the most it can take. A training
    pass counts about three times a forward pass.

    Args:
      config: of a pretraining.
      facts: of its data.

    Raises:
      UserError: JAX was started without the CPU.
    """
    cpu = _cpu()
    method, optimizer, mesh = create_method(config, facts), create_optimizer(config.optimizer), create_mesh([cpu])
    update = Update(optimizer, create_schedule(config.optimizer, facts.steps_per_epoch, config.epochs), facts.steps_per_epoch)
    step: Any = compile_step(method, update, mesh)
    of_batch = _flops(step.trace(abstract_state(method, facts, optimizer, mesh), batch_shapes(method, facts)))
    side = config.online.eval_data.crop
    image = jax.ShapeDtypeStruct((1, side, side, 3), config.model.dtype)
    weights = jax.eval_shape(method.backbone.init, jax.random.key(0))
    with jax.default_device(cpu):
        of_image = _flops(jax.jit(method.backbone.apply, static_argnums=3).trace(*weights, image, False))
    between = type(method).before_epoch is not Method.before_epoch
    return of_batch / facts.batch_size / of_image + between


def u_of_run(workdir: epath.PathLike) -> float | None:
    """`u_per_image` of the pretraining in a workdir; None where no checkpoint says how many images it saw, or its config is damaged."""
    try:
        meta = read_checkpoint(workdir)[1]
        config = read_config(workdir)
        check_config(config)
        images, classes = meta["images"], meta.get("classes")
        facts = DataFacts(images, tuple(classes) if classes else None, config.batch_size, max(images // config.batch_size, 1))
        return u_per_image(config, facts)
    except (UserError, KeyError):
        return None


def _cpu() -> jax.Device:
    """The device that steps are lowered for: JAX counts the operations of a program that is not compiled for no accelerator."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(f"JAX_PLATFORMS={asked} leaves out the CPU, for which compute is counted: use JAX_PLATFORMS={asked},cpu") from error


def _flops(traced: Any) -> float:
    # as for an accelerator: on a CPU the gradient of a kernel is a product that counts the zeros around a picture as well
    return float(traced.lower(lowering_platforms=("cuda",)).cost_analysis()["flops"])
