"""The linear probe: training with labels where the backbone stands still (paper, section 4.1)."""

import dataclasses

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jigclu_jax.config.fields import Field
from jigclu_jax.methods import DataFacts, Tree
from jigclu_jax.methods.supervised import Supervised
from jigclu_jax.methods.supervised import create as create_supervised

FIELDS: dict[str, Field] = {}


@dataclasses.dataclass(frozen=True)
class LinearProbe(Supervised):
    """A classifier of a backbone that `config.optimizer.multipliers` freeze, so that padding reaches no BatchNorm.

    The extra state `scale` multiplies the features: 1 for the backbone that is probed (the paper's protocol).
    """

    whole_batches = False
    trains_backbone = False

    def init(self, key: jax.Array, facts: DataFacts) -> tuple[Tree, Tree, Tree]:
        """As training with labels; extra {scale}."""
        params, stats, _ = super().init(key, facts)
        return params, stats, {"scale": jnp.ones((), jnp.float32)}

    def features(self, params: Tree, stats: Tree, extra: Tree, image: jax.Array, train: bool) -> tuple[jax.Array, Tree]:
        """As training with labels, times `scale`."""
        features, stats = super().features(params, stats, extra, image, train)
        return extra["scale"] * features, stats


def create(config: ConfigDict, facts: DataFacts) -> LinearProbe:
    """The probe for a backbone as `config.model` describes it; UserError where there are no labels."""
    return LinearProbe(**vars(create_supervised(config, facts)))
