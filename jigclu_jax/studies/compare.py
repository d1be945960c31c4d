"""Job `compare`: any number of runs side by side in one page."""

import sys

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.atomic_file import write_text
from jigclu_jax.device import distributed
from jigclu_jax.errors import UserError, counted
from jigclu_jax.run_scope import run_scope
from jigclu_jax.studies.ablation_page import markdown
from jigclu_jax.studies.compare_page import compare_page
from jigclu_jax.studies.compared_runs import compared, read_runs
from jigclu_jax.studies.cost import u_of_run
from jigclu_jax.studies.method_table import TITLES, method_tables, table_cells
from jigclu_jax.train.holding import held_workdir
from jigclu_jax.train.workdir import open_workdir, write_result


@run_scope()
def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Compare the workdirs in `config.runs`; leaves report.html, result.json and, of two methods or more, table.md.

    What cannot be read is named, and left out.

    Raises:
      UserError: no workdirs are given, or none can be read.
    """
    distributed.start()
    if not distributed.is_main():
        return
    with held_workdir(workdir, config):
        _compare(config, workdir)


def _compare(config: ConfigDict, workdir: epath.PathLike) -> None:
    names = expand(config.runs)
    if not names:
        raise UserError(
            "config.runs is empty: give workdirs with commas between them, as in --config.runs=runs/a,runs/b or --config.runs='runs/*'"
        )
    runs, broken = read_runs(names)
    for line in broken:
        print(f"left out: {line}", file=sys.stderr, flush=True)
    if not runs:
        raise UserError(f"of {counted(len(names), 'run')} none can be read; the first: {broken[0]}")
    root = open_workdir(workdir, config)
    found = compared(runs)
    tables = method_tables(runs, u_of_run)
    write_result(root, {"job": config.job, "runs": [run.name for run in runs], "left_out": broken, "groups": found, "tables": tables})
    if tables:
        text = "\n".join(f"{TITLES[table['by']]}\n\n{markdown(*table_cells(table))}" for table in tables)
        write_text(root / "table.md", text)
        print(text, flush=True)
    compare_page(root, runs, found, tables, broken)
    print(f"report: {root / 'report.html'}", flush=True)


def expand(text: str) -> list[str]:
    """The workdirs that `config.runs` names, each once; a * stands for any folder's name, or part of it, wherever it is."""
    names: list[str] = []
    for part in filter(None, (piece.strip().rstrip("/") for piece in text.strip().strip("()").split(","))):
        part = part.strip("'\"")
        if "*" not in part:
            names.append(part)
            continue
        fixed, star, pattern = part.partition("*")
        parent, slash, start = fixed.rpartition("/")
        found = sorted(path for path in epath.Path(parent or slash or ".").glob(start + star + pattern) if path.is_dir())
        names += [str(path) for path in found] or [part]
    return list(dict.fromkeys(names))
