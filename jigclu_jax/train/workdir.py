"""Reads and writes the config and the result of a workdir."""

import contextlib
import json
import subprocess
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from etils import epath
from ml_collections import ConfigDict

import jigclu_jax
from jigclu_jax.atomic_file import write_text
from jigclu_jax.config.stored import check_folder, read_config
from jigclu_jax.data.sources.fingerprint import same_path
from jigclu_jax.errors import UserError, first_few
from jigclu_jax.json_file import NOTHING, read_json
from jigclu_jax.train.claim import FILE as CLAIM

# Fields that change what a person sees or how fast it comes, not what is computed.
_HARMLESS = (
    "log",
    "log_every_steps",
    "report",
    "force_config",
    "grown_data",
    "debug",
    "profile",
    "seeds",
    "data.threads",
    "data.workers",
    "data.on_error",
    "eval_data.on_error",
    "online.every_epochs",
    "online.images",
    "online.neighbours",
    "online.rank_warning",
    "online.eval_data",
)
# Fields of paths, which may be written in several ways.
_PATHS = ("path", "data_dir", "list", "checkpoint", "weights", "cache", "output")
# Fields that say what a step is: the position of a checkpoint would be another one.
_POSITION = ("batch_size",)
TRACKED_FILE = "tracked_as"  # the name of the run at a tracker (train/trackers.py)
_LEFT_BEHIND = 3600.0  # seconds after which nobody is writing a file any more
# What a run writes up to its first checkpoint.
_RUN_FILES = (
    *("config.json", "metrics.jsonl", "metric_specs.json", "nonfinite.json", "images_skipped.txt", TRACKED_FILE),
    *("checkpoints", "tensorboard", "pictures", "profile"),
)
_RESULT_FIELDS = (
    "job",
    "version",
    "commit",
    "seed",
    "seconds",
    "images_per_second",
    "probe_top1_last",
    "probe_top1_best",
    "probe_top5_last",
    "probe_top1_random_init",
)
_RESULT_KINDS = {name: (int, float, NOTHING) for name in _RESULT_FIELDS} | {
    "job": (str,),
    "version": (str, NOTHING),
    "commit": (str, NOTHING),
}


def config_as_dict(config: ConfigDict) -> dict[str, Any]:
    """The config as plain JSON types (tuples become lists)."""
    return json.loads(config.to_json_best_effort())


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts -> {"a.b.c": value}."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The fields in which two configs (JSON types) differ so that the runs would differ."""
    before, after = flatten(old), flatten(new)
    names = sorted(name for name in before.keys() | after.keys() if _differs(name, before.get(name), after.get(name)))
    return [name for name in names if not any(name == field or name.startswith(f"{field}.") for field in _HARMLESS)]


def _differs(name: str, old: Any, new: Any) -> bool:
    if name.rpartition(".")[2] in _PATHS and isinstance(old, str) and isinstance(new, str):
        return same_path(old) != same_path(new)
    return bool(old != new)


def check_workdir(workdir: epath.PathLike, config: ConfigDict) -> None:
    """Refuse, before anything slow is done and without writing, a workdir that this run cannot have.

    Raises:
      UserError: the workdir holds another config (names the fields), or is a file.
    """
    check_folder(workdir)
    root = epath.Path(workdir)
    if not (root / "config.json").exists():
        return
    old = config_as_dict(read_config(root))
    changed = changed_fields(old, config_as_dict(config))
    for name in set(_POSITION) & set(changed):
        raise UserError(
            f"{root} was begun with config.{name}={old[name]}, and its steps are counted in such batches: set that again, or use another"
            " workdir (config.force_config does not change this)"
        )
    if changed and not config.get("force_config", False):
        verb = "differs" if len(changed) == 1 else "differ"
        # a demo has no such field of its own
        way_out = ", or --config.force_config=True" if "force_config" in config else ""
        raise UserError(f"{root} holds a run with another config ({first_few(changed)} {verb}): use another workdir{way_out}")


def open_workdir(workdir: epath.PathLike, config: ConfigDict, *, write: bool = True) -> epath.Path:
    """Make the workdir and write `config.json`, or check that the one there is of the same run.

    Args:
      workdir: local or remote path.
      config: resolved config.
      write: False on processes that do not write files.

    Raises:
      UserError: the workdir holds another config (names the fields), is a file, or cannot be written.
    """
    check_workdir(workdir, config)
    root = epath.Path(workdir)
    if write:
        try:
            root.mkdir(parents=True, exist_ok=True)
            _remove_left_behind(root)
            write_text(root / "config.json", json.dumps(config_as_dict(config), indent=2) + "\n")
        except OSError as error:
            raise UserError(f"--workdir={root} cannot be written: {error.strerror or error}") from None
    return root


def _remove_left_behind(root: epath.Path) -> None:
    """Remove the files of processes that were killed while they wrote; a young one may be another's that shares the workdir and lives."""
    for partial in root.glob(".*.partial"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - partial.stat().mtime > _LEFT_BEHIND:
                partial.unlink(missing_ok=True)


def check_shared(workdir: epath.PathLike, seconds: float = 20.0) -> None:
    """Refuse a workdir that the process which writes `config.json` has and this one does not see.

    Args:
      workdir: opened by the writing process before.
      seconds: how long to look: a network file system shows a new file late.

    Raises:
      UserError: it does not come.
    """
    deadline = time.monotonic() + seconds
    while not has_run(workdir):
        if time.monotonic() > deadline:
            raise UserError(f"--workdir={workdir} is not where process 0 writes: give a folder that all machines share, or gs://BUCKET/DIR")
        time.sleep(0.1)


def has_run(workdir: epath.PathLike) -> bool:
    """Whether a run has begun in the workdir."""
    return (epath.Path(workdir) / "config.json").exists()


def only_begun(workdir: epath.PathLike, before: Collection[str]) -> bool:
    """Whether a workdir holds, beside the names that were there `before`, nothing but what a run writes up to its first checkpoint."""
    root = epath.Path(workdir)
    names = {path.name for path in root.iterdir()} if root.exists() else set()
    return not {name for name in names.difference(before, _RUN_FILES, (CLAIM,)) if not name.endswith(".partial")}


def discard_run(workdir: epath.PathLike, keep: Collection[str] = ()) -> None:
    """Remove what a run has left that ended before its first checkpoint, and the folder where nothing else is in it.

    `keep` are names of what was in the workdir before the run.
    """
    root = epath.Path(workdir)
    checkpoints = root / "checkpoints"
    if checkpoints.exists() and any(folder.name.isdigit() for folder in checkpoints.iterdir()):
        return
    for name in _RUN_FILES:
        path = root / name
        if name in keep:
            continue
        if path.is_dir():
            path.rmtree()
        else:
            path.unlink(missing_ok=True)
    if root.exists() and not any(root.iterdir()):
        root.rmdir()


def commit() -> str | None:
    """The git commit that this package runs from, None outside a checkout; "+changes" marks an unclean tree."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    try:
        head = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        status = subprocess.run(
            ["git", "-C", str(here), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def write_result(workdir: epath.PathLike, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Write `result.json`: every field of the contract, null where it has no meaning, and those given beside."""
    result = {name: None for name in _RESULT_FIELDS} | {"version": jigclu_jax.__version__, "commit": commit()} | dict(fields)
    write_text(epath.Path(workdir) / "result.json", json.dumps(result, indent=2) + "\n")
    return result


def read_result(workdir: epath.PathLike) -> dict[str, Any] | None:
    """The `result.json` of a finished run, None where there is none; DamagedFile where it does not hold what every result has."""
    path = epath.Path(workdir) / "result.json"
    return read_json(path, _RESULT_KINDS, "delete it, and start the same command again") if path.exists() else None
