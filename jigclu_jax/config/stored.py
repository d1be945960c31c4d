"""Reads the config.json of a workdir, those of earlier versions included."""

import importlib.util
import json
import os
from collections.abc import Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config.fields import Field
from jigclu_jax.config.jobs import build, fields_of
from jigclu_jax.config.places import to_path
from jigclu_jax.errors import UserError
from jigclu_jax.json_file import read_json

# Fields of version 0.1.0 -> where they stand now.
RENAMED: Mapping[str, str] = {
    "method": "method.name",
    "input": "method.input",
    **{f"data.{name}": f"method.{name}" for name in ("grid", "overlap", "shuffle_group")},
    **{f"loss.{name}": f"method.{name}" for name in ("temperature", "base_temperature", "cluster_weight", "location_weight")},
    **{f"head.{name}": f"method.{name}" for name in ("embedding_dim", "decouple_size")},
    "figure": "metric",
    **{f"checkpoint.{name}": f"saving.{name}" for name in ("every_epochs", "best_metric", "best_mode")},
}
_ALWAYS_THERE = {"seed", "data"}  # sections of every config that was ever stored


def current_form(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config (JSON types) as this version would store it; configs inside it as well.

    Fields that came after it was stored get their defaults, which keep what it computed. What lacks whole sections that every version had
    is left as it is, for `check_config` to refuse.
    """
    now = {name: current_form(value) if isinstance(value, Mapping) and "job" in value else value for name, value in tree.items()}
    if now.get("job") == "ablation" and now.keys() >= {"table", "seeds"}:
        now |= {"metric": now.pop("figure")} if "figure" in now else {}
        now = {name: field.default for name, field in fields_of("ablation").items() if isinstance(field, Field)} | now
    if not now.keys() >= _ALWAYS_THERE:
        return now
    try:
        if isinstance(now.get("method"), str):
            now = _from_first_version(now)
        method = now.get("method")
        fields = fields_of(str(now.get("job")), str(method.get("name")) if isinstance(method, Mapping) else "")
    except UserError:  # for `check_config`, too
        return now
    return _filled(now, json.loads(build(fields).to_json()))


def config_from_dict(tree: Mapping[str, Any]) -> ConfigDict:
    """The config back from its JSON types, in the form of this version; locked."""

    def convert(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: convert(child) for name, child in value.items()}
        return tuple(map(convert, value)) if isinstance(value, list) else value

    config = ConfigDict(convert(current_form(tree)))
    config.lock()
    return config


def read_config(workdir: epath.PathLike) -> ConfigDict:
    """The config that a workdir was made with, in the form of this version; locked.

    Raises:
      UserError: there is none, or it is damaged.
    """
    check_folder(workdir)
    path = epath.Path(workdir) / "config.json"
    if not path.exists():
        raise UserError(f"{path} does not exist: give --config=configs/NAME.py to start a run in {workdir}")
    return read_config_file(path)


def read_config_file(path: epath.Path) -> ConfigDict:
    """The config in a file that a run wrote.

    Raises:
      UserError: there is none, or it is damaged.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: give the config.json of a workdir")
    return config_from_dict(read_json(path, {"job": (str,)}, "restore it, or use another workdir"))


def check_folder(workdir: epath.PathLike) -> None:
    """UserError for a workdir that is a file, or in a bucket that this machine has no package for."""
    root = to_path(workdir, "--workdir")
    if os.fspath(root).startswith("gs://") and not _installed("google.cloud.storage"):
        # orbax asks it what sort of bucket it is; its own answer would be an ImportError at the first checkpoint
        raise UserError(f"--workdir={root} needs the package google-cloud-storage: pip install google-cloud-storage")
    for path in (root, *root.parents):
        if path.exists():
            if not path.is_dir():
                raise UserError(f"--workdir={root}: {path} is a file: give a folder")
            return


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a parent package
        return False


def _from_first_version(tree: dict[str, Any]) -> dict[str, Any]:
    """Fields moved by `RENAMED`; the settings of another method, and a "trunk" in patterns, are things of the past."""
    fields = fields_of(str(tree["job"]), tree["method"])
    now = {name: dict(value) if isinstance(value, Mapping) else value for name, value in tree.items()}
    now["method"] = {"name": tree["method"]}
    for old, new in RENAMED.items():
        *above, leaf = old.split(".")
        node = now.get(above[0]) if above else now
        section, dot, name = new.partition(".")
        if old == "method" or not dot or not isinstance(node, dict) or leaf not in node:
            continue
        value, group = node.pop(leaf), now.setdefault(section, {})
        if name in fields.get(section, {}) and isinstance(group, dict):
            group[name] = value
        if above and not node:
            del now[above[0]]
    optimizer = now.get("optimizer")
    if isinstance(optimizer, dict):
        for name in ("no_decay", "multipliers"):
            optimizer[name] = _renamed(optimizer.get(name, []))
        if tree["job"] == "probe":  # whose backbone was no parameter
            optimizer["multipliers"] = [["backbone/*", 0.0], *optimizer["multipliers"]]
    return now


def _renamed(pattern: Any) -> Any:
    """Patterns of parameters' paths, wherever they stand in lists: the backbone was called trunk."""
    if isinstance(pattern, list):
        return [_renamed(part) for part in pattern]
    return f"backbone{pattern.removeprefix('trunk')}" if isinstance(pattern, str) and pattern.startswith("trunk/") else pattern


def _filled(node: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        name: _filled(value, defaults[name]) if isinstance(value, Mapping) and isinstance(defaults.get(name), Mapping) else value
        for name, value in node.items()
    }
    return {**defaults, **both}
