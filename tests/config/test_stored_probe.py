"""A probe of version 0.1.0, whose backbone was no parameter, is one whose backbone is frozen by path."""

import json

import pytest

from jigclu_jax.config import check_config, config_from_dict, pretrain_config, probe_config
from jigclu_jax.errors import UserError


def test_a_probe_of_the_first_version_freezes_the_backbone_by_path() -> None:
    now = probe_config()
    assert now.optimizer.multipliers == (("backbone/*", 0.0),)
    old = json.loads(now.to_json()) | {"method": "linear"}
    old["optimizer"]["multipliers"] = [["classifier/bias", 2.0]]
    assert config_from_dict(old).optimizer.multipliers == (("backbone/*", 0.0), ("classifier/bias", 2.0))
    del old["optimizer"]["multipliers"]
    assert config_from_dict(old).optimizer.multipliers == now.optimizer.multipliers
    assert config_from_dict(json.loads(now.to_json())).optimizer.multipliers == now.optimizer.multipliers


@pytest.mark.parametrize(
    "changes", [{"figure": "probe_top1"}, {"saving": 3, "checkpoint": {"every_epochs": 2}}, {"data": 3}, {"method": "linear", "loss": []}]
)
def test_a_config_that_no_version_wrote_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UserError):
        check_config(config_from_dict(json.loads(pretrain_config().to_json()) | {"method": "jigclu"} | changes))
