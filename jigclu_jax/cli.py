"""The command line: `--config=FILE[:ARGS]`, `--workdir=DIR`, `--config.some.field=value`; every mistake is a UserError."""

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from jigclu_jax.errors import UserError
from jigclu_jax.train.workdir import flatten, read_config

USAGE = "python -m jigclu_jax --config=configs/NAME.py[:arg=value,...] --workdir=DIR [--config.some.field=value ...]"


def parse(arguments: Sequence[str]) -> tuple[ConfigDict, str]:
    """Command line without the program's name -> (locked config, workdir).

    Without `--config`, the config is the one in the workdir: that is how an interrupted run goes on.

    Raises:
      UserError: anything wrong with the line, the config file or a field.
    """
    if any(argument in ("-h", "--help", "--helpfull") for argument in arguments):
        print(f"usage: {USAGE}\nFields and defaults: jigclu_jax/config.py; configs/*.py say what each is for. --workdir=DIR alone goes on with a run.")
        sys.exit(0)
    path = _value(arguments, "config")
    workdir = _value(arguments, "workdir")
    if not workdir:
        raise UserError(f"--workdir=DIR is missing; usage: {USAGE}")
    if path is None:
        overrides = [argument for argument in arguments if argument.startswith(("--config.", "--noconfig."))]
        if overrides:
            raise UserError(f"{overrides[0]} needs --config=FILE before it: without, the run goes on with {workdir}/config.json as it is")
        _parse_flags(flags.FlagValues(), arguments)
        return read_config(workdir), workdir
    _check_file(path)
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", None, "path of a config file", flag_values=values, lock_config=True)
    try:
        _parse_flags(values, arguments)
    except UserError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise _explain(error, arguments, path) from error
    config: ConfigDict = holder.value
    if "job" not in config:
        raise UserError(f"--config={path} has no field `job`: it must say which job it is for")
    return config, workdir


def _parse_flags(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    flags.DEFINE_string("workdir", None, "where the run's files go", flag_values=values)
    try:
        rest = values(["jigclu_jax", *arguments])
    except flags.Error as error:
        text = str(error).splitlines()[0]
        raise UserError(f"{text}; usage: {USAGE}" if "Unknown command line flag" in text else text) from None
    if len(rest) > 1:
        raise UserError(f"{rest[1]!r} is not an option: fields are given as --config.name=value; usage: {USAGE}")


def _value(arguments: Sequence[str], name: str) -> str | None:
    """The value of `--name=value` or `--name value`."""
    for position, argument in enumerate(arguments):
        head, equals, value = argument.partition("=")
        if head in (f"--{name}", f"-{name}"):
            return value if equals else (arguments[position + 1] if position + 1 < len(arguments) else "")
    return None


def _check_file(value: str) -> None:
    """The config file must be there before ml_collections loads it, whose own message is a traceback."""
    path, _, _ = value.partition(":")
    if not path:
        raise UserError(f"--config has no value; usage: {USAGE}")
    if not Path(path).is_file():
        near = [str(found) for found in sorted(Path(path).parent.glob("*.py"))] if Path(path).parent.is_dir() else []
        close = difflib.get_close_matches(path, near, 1)
        raise UserError(f"--config={path}: there is no such file" + (f"; did you mean {close[0]}?" if close else ""))


def _explain(error: Exception, arguments: Sequence[str], path: str) -> UserError:
    """What went wrong while the config file was loaded or a field was set, in one line."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        cause = cause.__cause__ or cause.__context__
    config = _load(path)
    known = flatten(config.to_dict())
    for argument in arguments:
        if not argument.startswith(("--config.", "--noconfig.")):
            continue
        name = argument.lstrip("-").removeprefix("no").removeprefix("config.").partition("=")[0]
        if name.partition("[")[0] not in known:
            if any(field.startswith(f"{name}.") for field in known):
                fields = ", ".join(field for field in known if field.startswith(f"{name}."))
                return UserError(f"config.{name} is a group of fields: set one of {fields}")
            close = difflib.get_close_matches(name, known, 1, 0.5)
            leaf = [field for field in known if field.rpartition(".")[2] == name.rpartition(".")[2]]
            nearest = (leaf or close or [""])[0]
            return UserError(f"config.{name} is no field of {path}" + (f": did you mean config.{nearest}?" if nearest else ""))
    text = " ".join(str(error).split())
    return UserError(f"--config={path}: {text[:300]}")


def _load(path: str) -> ConfigDict:
    file, _, argument = path.partition(":")
    return load_config(file, argument or None)


def load_config(file: str, argument: str | None = None) -> ConfigDict:
    """The locked config of a file in Python's own terms, for notebooks and tests: `get_config(argument)`."""
    import runpy

    get_config = runpy.run_path(file)["get_config"]
    config: ConfigDict = get_config() if argument is None else get_config(argument)
    config.lock()
    return config
