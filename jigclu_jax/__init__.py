"""Jigsaw Clustering (CVPR 2021) for JAX: self-supervised pretraining of ResNets, one forward pass an image."""

import importlib

from jigclu_jax import first_signals

if first_signals.is_command():
    first_signals.answer()

__version__ = "0.2.0"

# name -> the module that it is in: PEP 562, `import jigclu_jax` stays quick, JAX comes with the first call
_HOMES = {
    "load_encoder": "jigclu_jax.encoder",
    **dict.fromkeys(("near_duplicates", "neighbours"), "jigclu_jax.evals.neighbours"),
    **dict.fromkeys(("Run", "compare", "demo", "embed", "evaluate", "export", "finetune", "pretrain"), "jigclu_jax.calls"),
}

__all__ = [
    *("Run", "__version__", "compare", "demo", "embed", "evaluate", "export", "finetune", "load_encoder", "near_duplicates"),
    *("neighbours", "pretrain"),
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from jigclu_jax.run_scope import run_scope  # here: a Ctrl-C is answered from the package's first line on, not after more imports

        with run_scope():  # orbax gives the root logger a handler when it is imported: a notebook's own settings would do nothing then
            globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)  # which is not asked for here again
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
