"""The command line: `--config=FILE[:ARGS]`, `--workdir=DIR`, `--config.some.field=value`; every mistake is a UserError.

`ml_collections.config_flags` was tried for it: it wants `--config` before every field, cuts a path at its first colon, loads files by
`load_module`, which Python gives up, and answers mistakes by seven sorts of exceptions, some with a traceback as their text. To
translate them took more lines than stand here.
"""

import argparse
import ast
import difflib
import inspect
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from etils import epath
from ml_collections import ConfigDict

from jigclu_jax.config.check import check_config, meant
from jigclu_jax.config.fields import Field, flat
from jigclu_jax.config.help import USAGE, help_text
from jigclu_jax.config.jobs import CONFIGS, fields_of, method_name, use_method
from jigclu_jax.config.places import to_path
from jigclu_jax.config.stored import RENAMED, read_config, read_config_file
from jigclu_jax.errors import UserError, one_line

T = TypeVar("T")
Text = str | bool | None  # what stood after `=`; None where there was nothing, False for `--noconfig.name`


class Parser(argparse.ArgumentParser):
    """The arguments of a verb of `jigclu`; a mistake is a UserError that names the help."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help lists the arguments")


OTHER_NAMES = {"checkpoint": "weights"}  # of arguments of a verb, as LightlyTrain calls them


def own_names(named: Mapping[str, Any], parameters: Sequence[str], positional: int) -> dict[str, Any]:
    """Keyword arguments of a call of a verb under the verb's own names of them.

    Args:
      named: the keyword arguments.
      parameters: of the verb, in order.
      positional: how many are given without a name.

    Raises:
      UserError: one argument is given by two names.
    """
    own = {other: name for other, name in OTHER_NAMES.items() if name in parameters}
    for other, name in own.items():
        if other in named and name in {*named, *parameters[:positional]}:
            raise UserError(f"{other} and {name} are two names of one argument: give one of them")
    return {own.get(name, name): value for name, value in named.items()}


class OneName(argparse.Action):
    """Stores the value of an option that has several names; two of them in one line are a mistake."""

    given: str | None = None

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        if self.given not in (None, option):
            parser.error(f"{self.given} and {option} are two names of one argument: give one of them")
        self.given = option
        setattr(namespace, self.dest, values)


def add_set(parser: Parser) -> None:
    """`--set FIELD=VALUE`, as often as wanted; `parser`'s `set` holds what `settings_of` reads."""
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="another field of the job's config")


def settings_of(texts: Sequence[str]) -> dict[str, str]:
    """FIELD=VALUE -> field and value; UserError where a value is missing."""
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals:
            raise UserError(f"--set {name} has no value: use --set {name}=VALUE")
    return {name: text for name, _, text in pairs}


def sizes_of(settings: Mapping[str, Any] | None, epochs: int, batch_size: int, image_size: int) -> tuple[int, int, int]:
    """Epochs, batch and side of the images, those among the settings before those given: what follows from one follows from the other."""
    given = {"epochs": epochs, "batch_size": batch_size, "data.image_size": image_size}
    texts = {field: str((settings or {}).get(field, "")) for field in given}
    first, second, third = (int(texts[field]) if texts[field].isdecimal() else value for field, value in given.items())
    return first, second, third  # a text that is no number is for the check to refuse


_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def parse(arguments: Sequence[str]) -> tuple[ConfigDict, str]:
    """Command line without the program's name -> (locked config, workdir).

    Without `--config`, the config is the one in the workdir: that is how an interrupted run goes on.

    Raises:
      UserError: anything wrong with the line, the config file or a field.
      SystemExit: help or the version was asked for, and is printed.
    """
    for names, text in ((("-h", "--help", "--helpfull"), help_text), (("--version",), _version)):
        if any(argument in names for argument in arguments):
            print(text())
            sys.exit(0)
    options, overrides = _split(arguments)
    workdir, spec = options.get("workdir", ""), options.get("config")
    if not workdir:
        raise UserError(f"--workdir=DIR is missing; usage: {USAGE}")
    workdir = os.fspath(to_path(workdir, "--workdir"))  # a shell leaves the ~ of --workdir=~/run as it is
    if spec == "":
        raise UserError(f"--config has no value; usage: {USAGE}")
    if spec is None:
        if overrides:
            name = overrides[0][0]
            raise UserError(f"--config.{name} needs --config=FILE beside it: without, the run goes on with {workdir}/config.json as it is")
        config, where = read_config(workdir), f"{workdir}/config.json"
    else:
        file, argument = find_config(spec)
        config, where = load_config(file, argument), f"--config={file}"
        for name, value in overrides:
            override(config, name, value, file)
    check_config(config, where)
    return config, workdir


def load_config(file: str | os.PathLike[str], argument: str | None = None) -> ConfigDict:
    """The locked config of a file: `get_config(argument)` of a Python file, or what a stored `config.json` says.

    Raises:
      UserError: no such file, the file raises or has no `get_config`, or what that returns is no config.
    """
    where = f"--config={os.fspath(file)}"
    if os.fspath(file).endswith(".json"):
        return read_config_file(epath.Path(file))
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


def override(config: ConfigDict, name: str, text: Text, where: str = "this config", prefix: str = "config.") -> None:
    """Set `config.name` ("optimizer.learning_rate") to the value that the text stands for; its range is `check_config`'s.

    Args:
      config: changed in place; the name of a method brings that method's own fields.
      name: dotted path of the field.
      text: what stood on the command line.
      where: the config's file, and `prefix` the path of this config in it, for messages.

    Raises:
      UserError: no such field (the nearest is named), a group of fields, or a text of another type.
    """
    known = flat(fields_of(config.job, method_name(config)))
    group, _, rest = name.partition(".")
    if rest and isinstance(config.get(group), ConfigDict) and "job" in config[group]:
        override(config[group], rest, text, where, f"{prefix}{group}.")
        return
    inside = [f"{prefix}{field}" for field in known if field.startswith(f"{name}.")]
    if name in known and isinstance(known[name], Field):
        value = _value(f"{prefix}{name}", text, known[name])
        if name == "method.name":
            use_method(config, value)
        config.update_from_flattened_dict({name: value})
    elif inside and name not in RENAMED:
        raise UserError(f"{prefix}{name} is a group of fields: set one of {', '.join(inside)}")
    else:
        raise UserError(f"{prefix}{name} is no field of {where}: {meant(name, list(known), prefix)}")


def _version() -> str:
    from jigclu_jax import __version__

    return __version__


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[tuple[str, Text]]]:
    """The options `config` and `workdir` with their values, and (field, text) of every field that is set."""
    options: dict[str, str] = {}
    overrides: list[tuple[str, Text]] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        name, equals, text = argument.partition("=")
        bare = name.removeprefix("-").removeprefix("-")
        if not argument.startswith("-") or not bare:
            raise UserError(f"{argument!r} is not an option: fields are given as --config.name=value; usage: {USAGE}")
        if bare.startswith("noconfig.") and not equals:
            overrides.append((bare.removeprefix("noconfig."), False))
            continue
        value = text if equals else waiting.pop(0) if waiting and not waiting[0].startswith("-") else None
        if bare.startswith("config."):
            overrides.append((bare.removeprefix("config."), value))
        elif bare in ("config", "workdir"):
            options[bare] = value or ""
        else:
            close = difflib.get_close_matches(bare, ("config", "workdir"), 1)
            raise UserError(f"unknown option {name}: {f'did you mean --{close[0]}?' if close else f'usage: {USAGE}'}")
    return options, overrides


def find_config(spec: str) -> tuple[str, str | None]:
    """The value of `--config`, taken apart at the colon that ends the longest path of a file; a bare name is a file in `configs/`."""
    if spec.endswith(".json"):
        return spec, None
    colons = [len(spec), *(place for place in range(len(spec) - 1, 0, -1) if spec[place] == ":")]
    for place in colons:
        if Path(spec[:place]).is_file():
            return spec[:place], spec[place + 1 :] or None
    file, _, argument = spec.partition(":") if len(spec.partition(":")[0]) > 1 else (spec, "", "")
    if file.isidentifier():
        folders = [folder for folder in (Path("configs"), CONFIGS) if folder.is_dir()]
        known = {path.stem: path for folder in reversed(folders) for path in folder.glob("*.py")}
        if file not in known:
            near = difflib.get_close_matches(file, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
            raise UserError(f"--config={file}: there is no config of that name: {hint}")
        file = os.fspath(known[file])
    return file, argument or None


def _value(name: str, text: Text, field: Field) -> Any:
    """The text as a value of the field's type."""
    if field.kind is bool:
        value = _TRUTH.get(text.lower()) if isinstance(text, str) else text is None
        if value is None:
            raise UserError(f"{name}={text} is not of type bool: use True or False")
        return value
    if text is False:
        raise UserError(f"--no{name}: {name} is no switch but of type {field.kind.__name__}: use --{name}=VALUE")
    if text is None:
        raise UserError(f"--{name} has no value: use --{name}=VALUE")
    try:
        if field.kind is not tuple:
            return field.kind(text)
        value = ast.literal_eval(str(text))
        items = tuple(value) if isinstance(value, tuple | list) else (value,)
        whole = field.item is float or (field.default and isinstance(field.default[0], float))
        return tuple(float(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in items) if whole else items
    except (ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError):
        wanted = {int: "a whole number", float: "a number"}.get(field.kind) or f"numbers, as in --{name}={_example(field.default)}"
        raise UserError(f"{name}={text} is not of type {field.kind.__name__}: give {wanted}") from None


def _example(default: tuple[Any, ...]) -> str:
    return ",".join(map(repr, default)) or "30,60"


def _guarded(action: Callable[[], T], where: str, file: str | os.PathLike[str]) -> T:
    """The action of a config file, whatever it raises told in one line with the file's own line number."""
    try:
        return action()
    except UserError:
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == os.fspath(file)]
        number = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
        line = f"{frames[-1].line} " if frames else ""
        new = [new for old, new in RENAMED.items() if f".{old} " in line]
        text = f"config.{new[0]} is the name of this field now" if new else one_line(getattr(error, "msg", error))
        raise UserError(f"{where}{f', line {number}' if number else ''}: {type(error).__name__}: {text}") from error


def _nearest_file(path: Path) -> str:
    if (CONFIGS / path.name).is_file():  # a command of the docs, where there is no checkout
        return f"; did you mean --config={path.stem}?"
    near = [str(found) for found in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
    close = difflib.get_close_matches(str(path), near, 1)
    return f"; did you mean {close[0]}?" if close else ""
