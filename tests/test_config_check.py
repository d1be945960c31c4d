"""Configs that no run can work with are refused, each field by its name."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from jigclu_jax.config import pretrain_config, probe_config
from jigclu_jax.config_check import check_best_metric, check_fields, check_run
from jigclu_jax.errors import UserError
from jigclu_jax.train.workdir import config_as_dict, config_from_dict, read_config


@pytest.mark.parametrize("make", [pretrain_config, probe_config])
def test_the_defaults_pass(make: Callable[[], ConfigDict]) -> None:
    config = make()
    config.optimizer.multipliers = (("*/kernel", 0.5),)
    check_fields(config, "x.py")
    check_run(config)
    back = config_from_dict(config_as_dict(config))  # what a resumed run reads
    check_fields(back, "config.json")
    assert config_as_dict(back) == config_as_dict(config)
    check_run(back)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("batch_size", 0, "must be at least 1"),
        ("log_every_steps", 0, "must be at least 1"),
        ("head.embedding_dim", 0, "must be at least 1"),
        ("data.image_size", 0, "must be at least 1"),
        ("data.grid", 0, "must be at least 1"),
        ("epochs", 0, "must be greater than 0"),
        ("epochs", -3, "must be greater than 0"),
        ("loss.temperature", 0.0, "must be greater than 0"),
        ("loss.base_temperature", float("nan"), "must be greater than 0"),
        ("checkpoint.every_epochs", 0.0, "must be greater than 0"),
        ("seed", -1, "must be 0 or more"),
        ("optimizer.learning_rate", -0.1, "must be 0 or more"),
        ("optimizer.learning_rate", float("inf"), "must be 0 or more"),
        ("optimizer.momentum", -0.1, "must be 0 or more"),
        ("optimizer.weight_decay", float("nan"), "must be 0 or more"),
        ("optimizer.epsilon", 0.0, "must be greater than 0"),
        ("optimizer.betas", (0.9, 1.0), "two numbers from 0 to below 1"),
        ("optimizer.betas", (0.9,), "two numbers from 0 to below 1"),
        ("optimizer.milestones", ("a",), "must hold numbers"),
        ("optimizer.no_decay", (1,), "must hold patterns of paths"),
        ("optimizer.multipliers", ("backbone/*",), "must hold pairs of a pattern"),
        ("optimizer.multipliers", (("backbone/*", -1.0),), "must hold pairs of a pattern"),
        ("accumulate", 0, "must be at least 1"),
        ("ema_decay", 1.0, "must be from 0 to below 1"),
        ("data.limit", -1, "must be 0 or more"),
        ("data.shuffle_group", -1, "must be 0 or more"),
        ("head.decouple_size", 9, "must be a multiple of config.data.grid=2, or 0"),
        ("head.decouple_size", -2, "must be 0 or more"),
        ("data.augment", "disk", "is unknown: use 'host', 'device' or 'resident'"),
        ("checkpoint.best_mode", "up", "is unknown: use 'max' or 'min'"),
    ],
)
def test_a_number_out_of_range_is_named(name: str, value: object, text: str) -> None:
    config = _with(pretrain_config(), name, value)
    with pytest.raises(UserError) as raised:
        check_run(config)
    assert str(raised.value).startswith(f"config.{name}={value!r}")
    assert text in str(raised.value)


@pytest.mark.parametrize("name", ["eval_batch_size", "eval_every_epochs", "eval_data.resize", "eval_data.crop"])
def test_the_probes_own_numbers(name: str) -> None:
    with pytest.raises(UserError, match=f"config.{name}=0 must be at least 1"):
        check_run(_with(probe_config(), name, 0))


def test_a_field_too_many_is_refused() -> None:
    config = pretrain_config()
    with config.unlocked():
        config.model.arhc = "resnet18"
    with pytest.raises(UserError, match=r"^x.py: config.model.arhc is no field of a pretrain job: did you mean config.model.arch\?$"):
        check_fields(config, "x.py")


def test_a_field_too_few_is_refused() -> None:
    config = pretrain_config()
    del config.optimizer.momentum
    with pytest.raises(UserError, match=r"^x.py: config.optimizer.momentum is missing: start from pretrain_config\(\)"):
        check_fields(config, "x.py")


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
    with pytest.raises(UserError, match=f"^config.json: config.{name}=.* is of type {kinds[0]}, it must be {kinds[1]}$"):
        check_fields(config_from_dict(tree), "config.json")


def test_the_configs_inside_a_demo_are_checked() -> None:
    inside = _with(probe_config(), "eval_every_epochs", 1)
    del inside.eval_every_epochs
    demo = ConfigDict({"job": "demo", "seed": 0, "pretrain": pretrain_config(), "probe": inside})
    with pytest.raises(UserError, match=r"^x.py, config.probe: config.eval_every_epochs is missing"):
        check_fields(demo, "x.py")


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
    config.checkpoint.best_metric = ""
    check_best_metric(config, ("loss",))
    config.checkpoint.best_metric = "top1"
    with pytest.raises(UserError, match=r"^config.checkpoint.best_metric='top1' is not measured by this run: use one of loss, acc, or ''$"):
        check_best_metric(config, ("loss", "acc"))
    with pytest.raises(UserError, match=r"config\.saving\.best_metric='probe_top1'"):
        check_best_metric(probe_config(), ("loss",))


def _with(config: ConfigDict, name: str, value: object) -> ConfigDict:
    *groups, leaf = name.split(".")
    node = config
    for group in groups:
        node = node[group]
    node[leaf] = value
    return config
