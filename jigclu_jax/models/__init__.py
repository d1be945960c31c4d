"""The ResNet family and the heads, as pure `init` / `apply` pairs over nested dicts."""

from jigclu_jax.models.architectures import ARCHITECTURES, PRECISIONS, STEMS
from jigclu_jax.models.functional import Frozen, Functional, init_parts
from jigclu_jax.models.heads import create_classifier, create_linear, create_mlp, create_projection
from jigclu_jax.models.resnet import Backbone, Stages, build_backbone

__all__ = [
    "ARCHITECTURES",
    "PRECISIONS",
    "STEMS",
    "Backbone",
    "Frozen",
    "Functional",
    "Stages",
    "build_backbone",
    "create_classifier",
    "create_linear",
    "create_mlp",
    "create_projection",
    "init_parts",
]
