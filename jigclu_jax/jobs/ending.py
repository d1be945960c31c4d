"""Prints the last lines of a job: where its report and its results lie, and what can be done next."""

import contextlib
import shlex

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.data.sources.presets import PRESETS, folder_in_place_of_preset
from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError
from jigclu_jax.train.workdir import read_result

_TRANSFER = ("cifar10", "cifar100")  # presets of configs/finetune.py by TFDS's names
_BATCH, _TRIED = 64, 0.8  # images a batch of configs/finetune.py and pretrain_folder.py; what a search leaves of them, and less
_OWN = ("demo", "ablation", "compare")  # jobs of many runs, which end with lines of their own


def say_end(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Prints the paths of report and result, and a command for what comes next, on the process that speaks."""
    if config.job in _OWN or not distributed.is_main():
        return
    root = epath.Path(workdir)
    for what, name in (("report", "report.html"), ("results", "result.json")):
        if (root / name).exists():
            print(f"{what}: {root / name}", flush=True)
    if command := next_command(config, workdir):
        print(f"next: {command}", flush=True)


def next_command(config: ConfigDict, workdir: epath.PathLike) -> str:
    """What one does with the result of a job, as a command line; empty where nothing follows."""
    root = epath.Path(workdir)
    if config.job == "prepare":
        shards = {"data.source": "prepared", "data.path": config.output, "data.split": config.output_split or config.data.split}
        return _command(f"pretrain_folder{_batch(root, ':')}", root.parent / "pretrained", shards) if config.mode == "write" else ""
    if config.job == "pretrain":
        data, side = _data(config), config.data.image_size
        if not _has_splits(config.data):  # so no accuracy can be measured
            return _command(f"embed:resize={round(side * 8 / 7)},crop={side}", f"{root}_features", {"checkpoint": root, **data})
        preset = data["data.name"] if data.get("data.name") in PRESETS else f"folder,resize={round(side * 8 / 7)},crop={side}"
        return _command(f"evaluate:preset={preset}", f"{root}_evaluation", {"checkpoint": root, **data})
    if config.job in ("probe", "evaluate", "fast_probe", "knn"):
        config = folder_in_place_of_preset(config)
        data = _data(config)
        preset = data["data.name"] if data.get("data.name") in _TRANSFER else f"folder,image_size={config.eval_data.crop}"
        origin = {name: config[name] for name in ("checkpoint", "weights") if config[name]}
        init = ",init=weights" if config.weights else ""
        return _command(f"finetune:preset={preset}{init}{_batch(root, ',')}", f"{root}_finetuned", {**origin, **data})
    if config.job == "finetune":
        trained = root / "final" if (root / "final").exists() else root
        return _command("export", f"{root}_exported", {"checkpoint": trained})
    if config.job == "embed":
        file = root / f"features.{config.format}"
        return shlex.join(["python", "-c", f"import jigclu_jax; print(*jigclu_jax.near_duplicates({str(file)!r}), sep='\\n')"])
    return ""


def _batch(root: epath.Path, before: str) -> str:
    """The argument batch_size of the config that follows, where there are fewer images than it has in a batch; else empty."""
    with contextlib.suppress(UserError):
        found = read_result(root) or {}
        images = int((found.get("train_images") or found.get("images") or _BATCH * 2) * _TRIED)
        if images < _BATCH:
            return f"{before}batch_size={2 ** max(images.bit_length() - 1, 0)}"
    return ""


def _has_splits(data: ConfigDict) -> bool:
    """Whether there are images of training and of evaluation, as `evaluate` reads them where nothing else is said."""
    root, splits = epath.Path(data.path).expanduser(), (PRESETS["folder"].train, PRESETS["folder"].test)
    if data.source == "folder":
        return all((root / split).is_dir() for split in splits)
    if data.source == "prepared":
        return all((root / f"{split}.json").is_file() for split in splits)
    return True


def _data(config: ConfigDict) -> dict[str, object]:
    """The fields that say which images a job had."""
    names = ("source", "name", "data_dir") if config.data.source == "tfds" else ("source", "path")
    given: dict[str, object] = {f"data.{name}": config.data[name] for name in names if config.data[name]}
    return given | ({"eval_data.split": "validation"} if config.data.source == "embedded" else {})


def _command(config: str, workdir: epath.PathLike, fields: dict[str, object]) -> str:
    file, _, argument = config.partition(":")
    given = [f"--config.{name}={value}" for name, value in fields.items() if value is not None]
    words = [f"--config={file}{':' if argument else ''}{argument}", f"--workdir={workdir}", *given]
    return shlex.join(["python", "-m", "jigclu_jax", *words])
