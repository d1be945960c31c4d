"""Jigsaw Clustering (CVPR 2021) for JAX: self-supervised pretraining of ResNets, one forward pass an image."""

from jigclu_jax import first_signals

if first_signals.is_command():
    first_signals.answer()

__version__ = "0.1.0"

__all__ = ["__version__", "load_encoder"]


def __getattr__(name: str) -> object:
    # PEP 562: `import jigclu_jax` stays quick, JAX is imported with the first encoder
    if name == "load_encoder":
        from jigclu_jax.encoder import load_encoder

        return load_encoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
