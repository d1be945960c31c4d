"""The command line: `--config=FILE[:ARGS]`, `--workdir=DIR`, `--config.some.field=value`; every mistake is a UserError.

Written out rather than left to `ml_collections.config_flags`: that one reads the overrides from `sys.argv`, so that a
notebook or a test could give none, and it answers an unknown field or a failing config file with a traceback.
"""

import dataclasses
import difflib
import inspect
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config import check_config
from jigclu_jax.config.override import override
from jigclu_jax.errors import UserError
from jigclu_jax.train.workdir import read_config

T = TypeVar("T")
USAGE = "python -m jigclu_jax --config=configs/NAME.py[:arg=value,...] --workdir=DIR [--config.some.field=value ...]"


def parse(arguments: Sequence[str]) -> tuple[ConfigDict, str]:
    """Command line without the program's name -> (locked config, workdir).

    Without `--config`, the config is the one in the workdir: that is how an interrupted run goes on.

    Raises:
      UserError: anything wrong with the line, the config file or a field.
    """
    if any(argument in ("-h", "--help", "--helpfull") for argument in arguments):
        print(f"usage: {USAGE}\n--workdir=DIR alone goes on with a run. Configs: configs/*.py. Fields: jigclu_jax/config.py.")
        sys.exit(0)
    line = _split(arguments)
    if not line.workdir:
        raise UserError(f"--workdir=DIR is missing; usage: {USAGE}")
    if line.config is None:
        if line.overrides:
            name = line.overrides[0][0]
            raise UserError(
                f"--config.{name} needs --config=FILE beside it: without, the run goes on with {line.workdir}/config.json as it is"
            )
        config = read_config(line.workdir)
        check_config(config, f"{line.workdir}/config.json")
        return config, line.workdir
    if not line.config.partition(":")[0]:
        raise UserError(f"--config has no value; usage: {USAGE}")
    file, _, argument = line.config.partition(":")
    config = load_config(file, argument or None)
    for name, value in line.overrides:
        override(config, name, value, where=file)
    check_config(config, f"--config={file}")
    return config, line.workdir


def load_config(file: str | os.PathLike[str], argument: str | None = None) -> ConfigDict:
    """The locked config of a file, `get_config(argument)` of it: what `--config=FILE:ARGUMENT` gives, for notebooks and tests.

    Raises:
      UserError: no such file, the file raises or has no `get_config`, or what that returns is no config.
    """
    where = f"--config={os.fspath(file)}"
    if not Path(file).is_file():
        raise UserError(f"{where}: there is no such file{_nearest_file(Path(file))}")
    get_config = _guarded(lambda: runpy.run_path(os.fspath(file)), where, file).get("get_config")
    if not callable(get_config):
        raise UserError(f"{where} has no function get_config(arg): see configs/demo.py for one")
    if argument is not None and not inspect.signature(get_config).parameters:
        raise UserError(f"{where}:{argument}: its get_config() takes no argument: leave {':' + argument!r} out")
    config = _guarded(lambda: get_config() if argument is None else get_config(argument), where, file)
    if not isinstance(config, ConfigDict):
        raise UserError(f"{where}: get_config returned {type(config).__name__}, it must return an ml_collections.ConfigDict")
    if not isinstance(config.get("job"), str):
        raise UserError(f"{where} has no field `job`: it must say which job it is for")
    config.lock()
    return config


@dataclasses.dataclass
class _Line:
    """The command line, sorted; overrides are (field, text), text None for a bare `--config.field`, False for `--noconfig.field`."""

    config: str | None = None
    workdir: str | None = None
    overrides: list[tuple[str, str | bool | None]] = dataclasses.field(default_factory=list)


def _split(arguments: Sequence[str]) -> _Line:
    line = _Line()
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, text = argument.partition("=")
        bare = name.removeprefix("-").removeprefix("-")
        if not argument.startswith("-") or not bare:
            raise UserError(f"{argument!r} is not an option: fields are given as --config.name=value; usage: {USAGE}")
        if bare.startswith("noconfig.") and not equals:
            line.overrides.append((bare.removeprefix("noconfig."), False))
            continue
        value = text if equals else None
        if value is None and waiting and not waiting[0].startswith("-"):
            value = waiting.pop(0)
        if bare.startswith("config."):
            line.overrides.append((bare.removeprefix("config."), value))
        elif bare == "config":
            line.config = value or ""
        elif bare == "workdir":
            line.workdir = value or ""
        else:
            close = difflib.get_close_matches(bare, ("config", "workdir"), 1)
            raise UserError(f"unknown option {name}: {f'did you mean --{close[0]}?' if close else f'usage: {USAGE}'}")
    if line.workdir:
        line.workdir = os.fspath(epath.Path(line.workdir).expanduser())  # a shell leaves the ~ of --workdir=~/run as it is
    return line


def _guarded(action: Callable[[], T], where: str, file: str | os.PathLike[str]) -> T:
    """The action of a config file, whatever it raises told in one line with the file's own line number."""
    try:
        return action()
    except UserError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == os.fspath(file)]
        number = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
        place = f", line {number}" if number else ""
        raise UserError(f"{where}{place}: {type(error).__name__}: {text[:300]}") from error


def _nearest_file(path: Path) -> str:
    near = [str(found) for found in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
    close = difflib.get_close_matches(str(path), near, 1)
    return f"; did you mean {close[0]}?" if close else ""
