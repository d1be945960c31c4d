"""A pretrained backbone as a plain function of images, for notebooks and other programs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict

from jigclu_jax.config import config_from_dict
from jigclu_jax.config.jobs import build
from jigclu_jax.config.places import to_path
from jigclu_jax.config.schema import MODEL
from jigclu_jax.interop.weight_files import files_in
from jigclu_jax.interop.weights import load_weights
from jigclu_jax.models import Stages, build_backbone
from jigclu_jax.ops.normalize import normalize
from jigclu_jax.train.checkpoint import FOLDER, read_checkpoint, stored_backbone


class Encoder:
    """Maps `uint8[b, h, w, 3]` RGB to pooled features `float32[b, D]`, BatchNorm in eval mode.

    Attributes:
      dim: D.
      channels: of the map of each stage.
      strides: pixels from one place of each stage's map to the next.
      config: config of the run that trained it; of a file of weights its group `model` alone.
      step: the checkpoint's step; None where it comes from a file.
      report: what was mapped and left of a file of weights; empty where it comes from a run.
      classes: the training set's classes, None where it had no labels.
      params: the backbone's parameters, nested dicts.
      stats: the backbone's BatchNorm statistics.
    """

    def __init__(
        self, params: Any, stats: Any, config: ConfigDict, step: int | None = None, classes: tuple[str, ...] | None = None
    ) -> None:
        backbone = build_backbone(config.model)
        self.dim, self.channels, self.strides = backbone.dim, backbone.channels, backbone.strides
        self.config, self.step, self.classes = config, step, classes
        self.params, self.stats = params, stats
        self.report: tuple[str, ...] = ()

        def stages(params: Any, stats: Any, images: jax.Array) -> Stages:
            found, _ = backbone.apply(params, stats, normalize(images, config.model.dtype), False)
            return jax.tree.map(lambda array: array.astype(jnp.float32), found)

        self._features = jax.jit(lambda *arguments: stages(*arguments).features)
        self._maps = jax.jit(lambda *arguments: stages(*arguments).maps)

    def __call__(self, images: UInt8[np.ndarray, "b h w 3"], batch_size: int = 256) -> Float32[np.ndarray, "b d"]:
        """Features of a batch of any length, computed `batch_size` images at a time.

        Raises:
          TypeError: images are not uint8; ValueError: not of shape [b, h, w, 3].
        """
        features: np.ndarray = self._chunks(self._features, images, batch_size)
        return features

    def maps(self, images: UInt8[np.ndarray, "b h w 3"], batch_size: int = 64) -> tuple[Float32[np.ndarray, "_ _ _ _"], ...]:
        """Feature maps `float32[b, h', w', channels]` of the four stages, the finest first; h' is h / stride, rounded up.

        Raises:
          TypeError, ValueError: as for features.
        """
        maps: tuple[np.ndarray, ...] = self._chunks(self._maps, images, batch_size)
        return maps

    def _chunks(self, forward: Callable[..., Any], images: np.ndarray, batch_size: int) -> Any:
        images = np.asarray(images)
        if images.dtype != np.uint8:
            raise TypeError(f"images are {images.dtype}: give uint8, 0 to 255, as they are decoded (normalising happens inside)")
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"images have shape {images.shape}: give [batch, height, width, 3]; one image is image[None]")
        if not len(images):
            return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(forward, self.params, self.stats, images))
        parts = []
        for begin in range(0, len(images), batch_size):
            chunk = images[begin : begin + batch_size]
            missing = batch_size - len(chunk) if len(images) > batch_size else 0
            # the last chunk is padded to the others' length: one compilation serves all
            padded = np.pad(chunk, ((0, missing), (0, 0), (0, 0), (0, 0)))
            parts.append(jax.device_get(forward(self.params, self.stats, padded)))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays)[: len(images)], *parts)


def load_encoder(path: epath.PathLike, which: str = "last", *, ema: bool = False, prefix: str = "", channels: str = "") -> Encoder:
    """The backbone that a training job left in its workdir, or one in a file of weights.

    Args:
      path: workdir of a pretraining (or supervised) job, `gs://` works; or a file or folder as `interop/weights.py: load_weights` takes it.
      which: of a workdir: "last", "best" or a step's number.
      ema: of a workdir: the moving averages of a run with `ema_decay` instead of the weights of the last update.
      prefix: of a file with several backbones: under which it lies.
      channels: of a file whose first convolution has other than 3 channels: "mean" or "repeat".

    Raises:
      UserError: no such workdir, checkpoint or file, or one without a backbone or without averages.
    """
    root = to_path(path, "path")
    if root.is_file() or (not (root / FOLDER).exists() and files_in(root)):
        found = load_weights(root, prefix, channels)
        encoder = Encoder(found.params, found.stats, ConfigDict({"model": build(MODEL).to_dict() | found.model}))
        encoder.report = found.report
        return encoder
    step, meta, tree = read_checkpoint(path, which)
    params, stats, _ = stored_backbone(tree, meta, "ema" if ema else "params", str(path))
    classes = tuple(meta["classes"]) if meta.get("classes") else None
    return Encoder(params, stats, config_from_dict(meta["config"]), step, classes)
