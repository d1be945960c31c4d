"""Configs that no run can work with are refused, each field by its name."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from named_errors import raises_naming

from jigclu_jax.config import (
    Field,
    check_best_metric,
    check_config,
    config_from_dict,
    demo_config,
    pretrain_config,
    probe_config,
    read_config,
)
from jigclu_jax.errors import UserError
from jigclu_jax.train.workdir import config_as_dict


@pytest.mark.parametrize("make", [pretrain_config, probe_config])
def test_the_defaults_pass(make: Callable[[], ConfigDict]) -> None:
    config = make()
    config.optimizer.multipliers = (("*/kernel", 0.5),)
    check_config(config, "x.py")
    back = config_from_dict(config_as_dict(config))  # what a resumed run reads
    check_config(back, "config.json")
    assert config_as_dict(back) == config_as_dict(config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("log_every_steps", 0),
        ("method.embedding_dim", 0),
        ("data.image_size", 0),
        ("method.grid", 0),
        ("epochs", 0),
        ("epochs", -3),
        ("method.temperature", 0.0),
        ("method.temperature", 1e-30),
        ("method.base_temperature", float("nan")),
        ("saving.every_epochs", 0.0),
        ("seed", -1),
        ("optimizer.learning_rate", -0.1),
        ("optimizer.learning_rate", float("inf")),
        ("optimizer.momentum", -0.1),
        ("optimizer.name", "adam"),
        ("optimizer.schedule", "cosin"),
        ("optimizer.exclude_1d", "yes"),
        ("optimizer.weight_decay", float("nan")),
        ("optimizer.epsilon", 0.0),
        ("optimizer.betas", (0.9, 1.0)),
        ("optimizer.betas", (0.9,)),
        ("optimizer.milestones", ("a",)),
        ("optimizer.no_decay", (1,)),
        ("optimizer.multipliers", ("backbone/*",)),
        ("optimizer.multipliers", (("backbone/*", -1.0),)),
        ("accumulate", 0),
        ("ema_decay", 1.0),
        ("data.limit", -1),
        ("method.shuffle_group", -1),
        ("method.decouple_size", -2),
        ("data.augment", "disk"),
        ("saving.best_mode", "up"),
        ("method.temperature", 1e30),
        ("method.cluster_weight", float("nan")),
        ("method.cluster_weight", -1.0),
        ("method.embedding_dim", 10**9),
        ("model.width", 1e30),
        ("seed", 2**64 - 1),
        ("epochs", 10**30),
        ("data.image_size", 10**9),
        ("data.threads", 10**9),
        ("data.subset_seed", -2),
        ("augment.brightness", float("nan")),
        ("augment.hue", 2.0),
        ("augment.crop_area", (0.2,)),
        ("augment.blur_sigma", (-1.0, 1.0)),
        ("optimizer.milestones", (1, 0)),
        ("optimizer.gamma", float("nan")),
        ("optimizer.betas", (0.9, True)),
        ("optimizer.name", "adam"),
        ("data.on_error", "ignore"),
        ("profile", "3-2"),
        ("data.path", "https://example.org/set.zip"),
        ("data.list", "s3://bucket/list.txt"),
        ("init.weights", "file:///weights.pth"),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    config = _with(pretrain_config(), name, value)
    with pytest.raises(UserError) as raised:
        check_config(config)
    assert re.match(rf"config\.{re.escape(name)}={re.escape(repr(value))} (must|is unknown)", str(raised.value))
    assert "\n" not in str(raised.value)


def test_every_number_has_two_finite_bounds() -> None:
    for numbers in ({}, {"low": 0}, {"low": 0, "high": float("inf")}, {"high": 1}, {"low": 0, "above": 0, "high": 1}):
        for default in (1, 1.0, (1.0, 2.0)):
            with pytest.raises(ValueError, match="finite"):
                Field(default, **numbers)
    Field(True), Field("text"), Field((), item=str)


@pytest.mark.parametrize("name", ["eval_batch_size", "eval_every_epochs", "eval_data.resize", "eval_data.crop"])
def test_the_probes_own_numbers(name: str) -> None:
    with raises_naming(f"config.{name}=0"):
        check_config(_with(probe_config(), name, 0))


def test_a_field_too_many_is_refused() -> None:
    config = pretrain_config()
    with config.unlocked():
        config.model.arhc = "resnet18"
    with raises_naming("x.py", "config.model.arhc", "config.model.arch"):
        check_config(config, "x.py")


def test_a_field_too_few_is_refused() -> None:
    config = pretrain_config()
    del config.optimizer.momentum
    with raises_naming("x.py", "config.optimizer.momentum", "pretrain_config()"):
        check_config(config, "x.py")


@pytest.mark.parametrize(
    ("name", "value", "kinds"),
    [
        ("epochs", "20", ("str", "int")),
        ("epochs", True, ("bool", "int")),
        ("epochs", 2.0, ("float", "int")),
        ("optimizer.learning_rate", "fast", ("str", "float")),
        ("optimizer.per_epoch", 1, ("int", "bool")),
        ("augment.crop_area", 0.2, ("float", "tuple")),
        ("model.arch", 18, ("int", "str")),
        ("data.path", None, ("NoneType", "str")),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: object, kinds: tuple[str, str]) -> None:
    tree = config_as_dict(pretrain_config())
    *groups, leaf = name.split(".")
    node = tree
    for group in groups:
        node = node[group]
    node[leaf] = value
    with raises_naming("config.json", f"config.{name}=", *kinds):
        check_config(config_from_dict(tree), "config.json")


def test_the_configs_inside_a_demo_are_checked() -> None:
    inside = _with(probe_config(), "eval_every_epochs", 1)
    del inside.eval_every_epochs
    demo = demo_config()
    demo.probe = inside
    with raises_naming("x.py", "config.probe.eval_every_epochs"):
        check_config(demo, "x.py")


def test_a_config_that_was_stored_before_a_field_came_gets_its_default(tmp_path: Path) -> None:
    config = _with(pretrain_config(), "seed", 5)
    tree = config_as_dict(config)
    del tree["profile"], tree["debug"], tree["optimizer"]["momentum"]
    (tmp_path / "config.json").write_text(json.dumps(tree))
    assert read_config(tmp_path).to_dict() == config.to_dict()
    demo = {"job": "demo", "seed": 0, "pretrain": tree}
    (tmp_path / "config.json").write_text(json.dumps(demo))
    assert read_config(tmp_path).pretrain.to_dict() == config.to_dict()


def test_the_best_metric_must_be_measured() -> None:
    config = pretrain_config()
    check_best_metric(config, ("loss", "accuracy_retrieval"))
    config.saving.best_metric = ""
    check_best_metric(config, ("loss",))
    config.saving.best_metric = "top1"
    with raises_naming("config.saving.best_metric='top1'", "loss", "acc"):
        check_best_metric(config, ("loss", "acc"))
    with raises_naming("config.saving.best_metric='probe_top1'"):
        check_best_metric(probe_config(), ("loss",))


def _with(config: ConfigDict, name: str, value: object) -> ConfigDict:
    *groups, leaf = name.split(".")
    node = config
    for group in groups:
        node = node[group]
    node[leaf] = value
    return config
