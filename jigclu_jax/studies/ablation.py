"""Job `ablation`: one table of the paper's ablations, row by row and seed by seed; any number of processes may work on one workdir.

The trial of a row and seed is a pretraining in WORKDIR/cells/ROW/seedN/pretrain and its judge in .../judge. What is finished is not run
again, what was killed goes on. Each process takes the next trial that nobody holds (`train/claim.py`); whoever ends last writes the
table.
"""

import json
import re
import statistics
import time
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.atomic_file import write_text
from jigclu_jax.config import check_config, read_config
from jigclu_jax.data.sources.opening import open_source
from jigclu_jax.device import distributed
from jigclu_jax.errors import NonFiniteError, Preempted, UserError, counted
from jigclu_jax.jobs import find_job
from jigclu_jax.json_file import NOTHING, NUMBER, DamagedFile, read_json
from jigclu_jax.run_scope import run_scope
from jigclu_jax.studies.ablation_page import ablation_page, markdown_table
from jigclu_jax.studies.ablation_tables import Row, row_config, table_rows
from jigclu_jax.studies.cost import u_per_image
from jigclu_jax.studies.seeds import summarise, verdict
from jigclu_jax.train.claim import claimed
from jigclu_jax.train.progress import duration
from jigclu_jax.train.run import facts_of
from jigclu_jax.train.stop import STOP
from jigclu_jax.train.workdir import check_workdir, discard_run, has_run, open_workdir, read_result, write_result
from jigclu_jax.train.writers import read_metrics

TRIALS, TRIAL_FILE = "cells", "cell.json"  # names of version 0.1.0
_POLL = 2.0  # seconds between two looks at what other processes do
Trial = dict[str, Any]
_MAYBE = (*NUMBER, NOTHING)
_KINDS = {"row": (str,), "seed": (int,), "epochs": NUMBER, "seconds": NUMBER, "interval": (list, NOTHING)} | dict.fromkeys(
    ("seconds_pretrain", "images_per_second"), _MAYBE
)


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Work on the trials until all are done; then result.json, rows.jsonl, table.md and report.html stand in the workdir.

    Raises:
      UserError: a configuration that cannot work, or several processes that JAX joins into one job.
      Preempted: SIGTERM has come; finished trials stay, the one under way has saved.
    """
    check_config(config)
    distributed.check_devices()
    if "checkpoint" not in config.judge or not config.metric:
        raise UserError("config.judge must be a job that reads a checkpoint, and config.metric a field of its result.json")
    rows = table_rows(config)
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        raise UserError("an ablation is spread by starting processes that know nothing of each other: start them without a coordinator")
    check_workdir(workdir, config)
    begun = has_run(workdir)
    costs = _costs(config, rows) if config.equal == "u" else {}
    root = open_workdir(workdir, config)
    try:
        _work(config, root, rows, costs)
    except UserError:
        if not begun:
            _discard(root)
        raise
    trials = {row.key: [_read(_folder(root, row, seed)) for seed in config.seeds] for row in rows}
    found = table(rows, {key: [trial for trial in row if trial] for key, row in trials.items()})
    for row in found:
        row["u"] = costs.get(row["row"])
    seconds = sum(trial["seconds"] for row in trials.values() for trial in row if trial)
    write_text(root / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in found))
    write_text(root / "table.md", markdown_table(found))
    write_result(
        root,
        {"job": config.job, "table": config.table, "metric": config.metric, "seeds": list(config.seeds), "rows": found, "seconds": seconds},
    )
    ablation_page(root)
    print(markdown_table(found) + f"report: {root / 'report.html'}", flush=True)


def table(rows: list[Row], trials: dict[str, list[Trial]]) -> list[dict[str, Any]]:
    """The rows of the table from its finished trials; the first row is what the others' verdicts are about."""
    found: list[dict[str, Any]] = []
    reference = None
    for row in rows:
        own = trials[row.key]
        ended = [trial for trial in own if trial["value"] is not None]
        values = [trial["value"] for trial in ended]
        entry: dict[str, Any] = {"row": row.key, "label": row.label, "values": values, "seeds": [trial["seed"] for trial in ended]}
        entry |= {"diverged": len(own) - len(ended), "epochs": own[0]["epochs"] if own else None}
        for name in ("seconds_pretrain", "images_per_second"):
            known = [trial[name] for trial in own if trial[name] is not None]
            entry[name] = statistics.median(known) if known else None
        # one seed that is left of several says little of them
        single = ended[0]["interval"] if len(ended) > 1 or len(ended) == len(own) == 1 else None
        summary = summarise(values, single, fraction=True) if values else None
        for name in ("mean", "deviation", "low", "high", "over"):
            entry[name] = getattr(summary, name) if summary else None
        if reference is None and not found:
            reference, entry["verdict"] = summary, "reference"
        else:
            entry["verdict"] = verdict(summary, reference) if summary and reference else "not resolved"
        found.append(entry)
    return found


def _costs(config: ConfigDict, rows: list[Row]) -> dict[str, float]:
    """u an image of each row's method, by the row's key."""
    found = {}
    source = open_source(config.pretrain.data, seed=config.pretrain.seed)
    for row in rows:
        pretrain = row_config(config.pretrain, row, 0, config.pretrain.epochs)
        found[row.key] = u_per_image(pretrain, facts_of(pretrain, source))
    return found


def _work(config: ConfigDict, root: epath.Path, rows: list[Row], costs: Mapping[str, float]) -> None:
    """Take trials until all are done."""
    trials = [(row, seed) for seed in config.seeds for row in rows]  # seed by seed: a table that was cut short has whole columns
    took: list[float] = []
    announced = False
    while True:
        left = [(row, seed) for row, seed in trials if _read(_folder(root, row, seed)) is None]
        if not left:
            return
        worked = False
        for row, seed in left:
            epochs = _epochs(config, root, rows, row, costs)
            if epochs is None:
                continue  # the trials that say how long it takes are not done
            folder = _folder(root, row, seed)
            with claimed(folder / "claim") as mine:
                if not mine or _read(folder) is not None:
                    continue
                begun = time.monotonic()
                rest = f"  about {duration(statistics.mean(took) * len(left))} left" if took else ""
                print(f"== {row.label}, seed {seed}: trial {len(trials) - len(left) + 1} of {len(trials)}{rest}", flush=True)
                _run_trial(config, row, seed, epochs, folder)
                took.append(time.monotonic() - begun)
            worked = True
            break  # what is left is looked up anew: other processes have gone on as well
        if not worked:
            if not announced:
                print(f"{counted(len(left), 'trial')} held by other processes: waiting", flush=True)
            announced = True
            if STOP.requested:
                raise Preempted("while other processes work on the last trials")
            time.sleep(_POLL)


def _run_trial(config: ConfigDict, row: Row, seed: int, epochs: int, folder: epath.Path) -> None:
    """Pretrain and judge; leaves TRIAL_FILE, by which the trial counts as done."""
    begun = time.monotonic()
    pretrain = row_config(config.pretrain, row, seed, epochs)
    found: dict[str, Any] = {"row": row.key, "seed": seed, "epochs": epochs, "value": None, "interval": None}
    found |= {"seconds_pretrain": None, "images_per_second": None}
    seconds = 0.0  # of what earlier processes did for this trial and this one has not repeated
    try:
        _run_job(pretrain, "pretrain", folder / "pretrain")
        trained = read_result(folder / "pretrain") or {}
        found |= {"seconds_pretrain": trained.get("seconds"), "images_per_second": trained.get("images_per_second")}
        seconds = max((found["seconds_pretrain"] or 0.0) - (time.monotonic() - begun), 0.0)
        judge = _judge_config(config, folder / "pretrain", seed)
        _run_job(judge, "judge", folder / "judge")
        judged = read_result(folder / "judge") or {}
        found |= {"value": _value(config.metric, judged, folder), "interval": judged.get(f"{config.metric}_interval")}
        if config.few:
            judge.data.fraction = config.few
            _run_job(judge, "judge", folder / "judge_few")
    except NonFiniteError as error:
        print(f"{folder}: {error}", flush=True)
        found["images_per_second"] = found["images_per_second"] or _logged_rate(folder / "pretrain")
    found["seconds"] = seconds + time.monotonic() - begun
    write_text(folder / TRIAL_FILE, json.dumps(found, indent=2) + "\n")


def _value(name: str, judged: dict[str, Any], folder: epath.Path) -> float:
    """The result that the table is made of; UserError where the judge has none of that name, or one that is no fraction."""
    where, value = folder / "judge" / "result.json", judged.get(name)
    if value is None:
        raise UserError(f"config.metric={name!r} is not in {where}: it has {', '.join(judged)}")
    if not isinstance(value, float) or not 0 <= value <= 1:
        raise UserError(f"config.metric={name!r} is no accuracy in {where}, and the table shows accuracies: use another one")
    return value


def _logged_rate(workdir: epath.Path) -> float | None:
    """Images/s of a pretraining that diverged, by what it logged: as quick as one that does not."""
    rates = [row["images_per_second"] for row in read_metrics(workdir) if row.get("images_per_second")]
    return statistics.median(rates) if rates else None


def _run_job(config: ConfigDict, field: str, workdir: epath.Path) -> None:
    """Run one half of a trial; a mistake is told by the ablation's own name of the field."""
    try:
        find_job(config.job).run(config, workdir)
    except UserError as error:
        raise type(error)(re.sub(r"(?<![\w/.])config\.(?!json\b)", f"config.{field}.", str(error))) from error


def _discard(root: epath.Path) -> None:
    """Remove what a refused first call has left, where no trial holds more than its claim."""
    left = [path for path in (root / TRIALS).glob("*/*/*") if path.name != "claim"]
    if not left:
        if (root / TRIALS).exists():
            (root / TRIALS).rmtree()
        discard_run(root)


def _judge_config(config: ConfigDict, backbone: epath.Path, seed: int) -> ConfigDict:
    judge = config.judge.copy_and_resolve_references()
    judge.checkpoint, judge.seed = str(backbone), seed
    if not judge.data.path and not judge.data.name:
        for name in ("source", "path", "name", "data_dir"):
            judge.data[name] = config.pretrain.data[name]
    return judge


def _epochs(config: ConfigDict, root: epath.Path, rows: list[Row], row: Row, costs: Mapping[str, float]) -> int | None:
    """Epochs of a row: the pretraining's, or as many as cost the reference row's u or time; None while that is not measured.

    Rates are the medians over the seeds of the trials with equal epochs, without compilation. A row that has begun keeps its epochs: seeds
    that are added later move the medians, and the trials of a row must not differ by more than their seed.
    """
    epochs = int(config.pretrain.epochs)
    if costs:
        return max(round(epochs * costs[rows[0].key] / costs[row.key]), 1)
    if not row.time_of:
        return epochs
    if (begun := _begun_epochs(root, row)) is not None:
        return begun
    rates = []
    for key in (rows[0].key, row.time_of):
        found = [_read(_folder(root, other, seed)) for other in rows if other.key == key for seed in config.seeds]
        known = [trial for trial in found if trial is not None]
        if len(known) < len(found):
            return None
        measured = [trial["images_per_second"] for trial in known if trial["images_per_second"]]
        if not measured:
            raise UserError(
                f"no trial of row {key!r} has run long enough for its rate to be known: give config.pretrain more epochs, or a lower"
                " learning rate where it diverged"
            )
        rates.append(statistics.median(measured))
    return max(round(epochs * rates[1] / rates[0]), 1)


def _begun_epochs(root: epath.Path, row: Row) -> int | None:
    """The epochs of the row's first trial that has begun, whichever seed's."""
    parent = root / TRIALS / row.key
    for folder in sorted(parent.iterdir()) if parent.exists() else ():
        trial = _read(folder)
        if trial is not None:
            return int(trial["epochs"])
        if has_run(folder / "pretrain"):
            return int(read_config(folder / "pretrain").epochs)
    return None


def _folder(root: epath.Path, row: Row, seed: int) -> epath.Path:
    return root / TRIALS / row.key / f"seed{seed}"


def _read(folder: epath.Path) -> Trial | None:
    path = folder / TRIAL_FILE
    if not path.exists():
        return None
    remedy = "delete it, and start the same command again: that trial runs anew"
    found = read_json(path, _KINDS, remedy)
    found = {"value": found.pop("figure", None)} | found  # its name in version 0.1.0
    if not isinstance(found["value"], float | int | None):
        raise DamagedFile(f"{path}: damaged, its value is no number: {remedy}")
    return found
