"""Configuration: fields with their ranges, the configs of all jobs, their check, and what stored ones mean.

`schema.py` and `jobs.py` list every field; `--config.some.field=value` sets one; configs are `ml_collections.ConfigDict`s.
"""

from jigclu_jax.config.arguments import parse_arg
from jigclu_jax.config.check import check_best_metric, check_config
from jigclu_jax.config.command_line import load_config, parse
from jigclu_jax.config.fields import Field, Fields
from jigclu_jax.config.jobs import (
    ablation_config,
    build,
    compare_config,
    crop_augment_config,
    demo_config,
    embed_config,
    eval_config,
    evaluate_config,
    export_config,
    fast_probe_config,
    finetune_config,
    head_grid_config,
    knn_config,
    montage_augment_config,
    optimizer_config,
    pipeline_config,
    prepare_config,
    pretrain_config,
    probe_config,
    source_config,
)
from jigclu_jax.config.stored import config_from_dict, read_config

__all__ = [
    "Field",
    "Fields",
    "ablation_config",
    "build",
    "check_best_metric",
    "check_config",
    "compare_config",
    "config_from_dict",
    "crop_augment_config",
    "demo_config",
    "embed_config",
    "eval_config",
    "evaluate_config",
    "export_config",
    "fast_probe_config",
    "finetune_config",
    "head_grid_config",
    "knn_config",
    "load_config",
    "montage_augment_config",
    "optimizer_config",
    "parse",
    "parse_arg",
    "pipeline_config",
    "prepare_config",
    "pretrain_config",
    "probe_config",
    "read_config",
    "source_config",
]
