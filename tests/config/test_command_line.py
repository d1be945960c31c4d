"""The command line as a stranger meets it: every mistake is one line on stderr that starts with `error:`, exit code 2, nothing written."""

import ast
from pathlib import Path

import pytest
from refusals import FOLDER_CONFIG, PROBE_CONFIG, ROOT, Refused, images, keep_signal_handler, refused, tree
from tiny_checkpoint import make_workdir, tiny_config

import jigclu_jax
from jigclu_jax.__main__ import main
from jigclu_jax.config import parse
from jigclu_jax.config.jobs import JOBS
from jigclu_jax.errors import UserError
from jigclu_jax.train.workdir import check_workdir, config_as_dict, discard_run, open_workdir

__all__ = ["images", "keep_signal_handler", "refused"]  # fixtures


# --- the line itself


def test_a_line_without_a_workdir(refused: Refused) -> None:
    for line in ([], [FOLDER_CONFIG], ["--workdir"], ["--workdir="], [FOLDER_CONFIG, "--workdir="]):
        assert refused(*line, workdir=None).startswith("--workdir=DIR is missing; usage: python -m jigclu_jax --config=")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--bogus=1", "unknown option --bogus: usage: python -m jigclu_jax"),
        ("--confg=x.py", "unknown option --confg: did you mean --config?"),
        ("extra", "'extra' is not an option: fields are given as --config.name=value"),
        ("--config.seeed=1", f"config.seeed is no field of {ROOT}/configs/pretrain_folder.py: did you mean config.seed?"),
        ("--noconfig.optimizer.per_epohc", "did you mean config.optimizer.per_epoch?"),
        ("--config.epochs=5.5", "config.epochs=5.5 is not of type int"),
        ("--config.optimizer.learning_rate=fast", "config.optimizer.learning_rate=fast is not of type float"),
        ("--config.optimizer.per_epoch=yes", "config.optimizer.per_epoch=yes is not of type bool"),
        ("--config.optimizer.milestones=(a,b)", "config.optimizer.milestones=(a,b) is not of type tuple"),
        ("--config.job=train", "config.job='train' is unknown: use one of pretrain, probe, "),
    ],
)
def test_an_argument_that_is_wrong(refused: Refused, argument: str, expected: str) -> None:
    assert expected in refused(FOLDER_CONFIG, argument)


def test_overrides_reach_the_config_in_any_order_and_form(tmp_path: Path) -> None:
    first = parse([FOLDER_CONFIG, f"--workdir={tmp_path}", "--config.seed=7", "--config.model.arch=resnet34", "--config.force_config"])
    second = parse(
        ["--config.seed", "7", "--config.force_config=1", "--config.model.arch", "resnet34", "--workdir", str(tmp_path), FOLDER_CONFIG]
    )
    assert config_as_dict(first[0]) == config_as_dict(second[0])
    assert first[1] == second[1] == str(tmp_path)
    config = first[0]
    assert (config.seed, config.model.arch, config.force_config, config.batch_size) == (7, "resnet34", True, 8)
    assert config.is_locked


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse([FOLDER_CONFIG, "--workdir=~/run"])[1] == str(tmp_path / "run")
    assert parse([FOLDER_CONFIG, "--workdir=gs://bucket/run"])[1] == "gs://bucket/run"


def test_help_lists_jobs_configs_their_arguments_and_examples(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    text = capfd.readouterr().out
    assert text.startswith("usage: python -m jigclu_jax --config=")
    listed = text.partition("\njobs: ")[2].partition("\n")[0]
    assert set(listed.split(", ")) == set(JOBS)
    for path in sorted((ROOT / "configs").glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert f"\n  {path.stem} " in text and docstring.partition("\n")[0] in text
    assert "Arguments: arch, stem, width, image_size" in text
    for line in text.partition("examples:\n")[2].replace("\\\n", " ").splitlines():
        arguments = line.split()[3:]
        if any(argument.startswith("--config=") for argument in arguments):
            parse(arguments)


def test_the_version(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--version"])
    assert raised.value.code == 0
    assert capfd.readouterr().out.strip() == jigclu_jax.__version__


# --- the config file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raise RuntimeError('boom')", ", line 1: RuntimeError: boom"),
        ("x = 1\ndef get_config(arg=None):\n    return {}['x']", ", line 3: KeyError: 'x'"),
        ("def get_config(:", ", line 1: SyntaxError: invalid syntax"),
        ("import no_such_module", ", line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1", " has no function get_config(arg)"),
        ("def get_config(arg=None): pass", ": get_config returned NoneType, it must return an ml_collections.ConfigDict"),
        ("def get_config(arg=None): return {'job': 'pretrain'}", ": get_config returned dict"),
        ("from ml_collections import ConfigDict\ndef get_config(arg=None): return ConfigDict({'seed': 1})", " has no field `job`"),
        (
            "from ml_collections import ConfigDict\ndef get_config(arg=None): return ConfigDict({'job': 'pretrain'})",
            ": config.method.name is missing: start from pretrain_config() of jigclu_jax.config",
        ),
        (
            "from jigclu_jax.config import probe_config\ndef get_config(arg=None):\n    c = probe_config()\n    c.epochs = 'ten'",
            ", line 4: TypeError: ",
        ),
    ],
)
def test_a_config_file_that_is_wrong(refused: Refused, tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text + "\n")
    assert refused(f"--config={file}").startswith(f"--config={file}{expected}")


def test_a_config_file_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    assert refused(f"--config={tmp_path}/nope.py") == f"--config={tmp_path}/nope.py: there is no such file"
    near = refused(f"--config={ROOT}/configs/pretrain_cifar.py")
    assert near.endswith(f"there is no such file; did you mean {ROOT}/configs/pretrain_cifar10.py?")
    assert refused(f"--config={ROOT}/configs") == f"--config={ROOT}/configs: there is no such file"
    assert refused("--config=").startswith("--config has no value")


def test_arguments_of_the_config_file(refused: Refused, tmp_path: Path) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text("from jigclu_jax.config import pretrain_config\ndef get_config(): return pretrain_config()\n")
    assert refused(f"--config={plain}:a=1") == f"--config={plain}:a=1: its get_config() takes no argument: leave ':a=1' out"
    path = f"--config={ROOT}/configs/pretrain_folder.py"
    assert refused(f"{path}:archh=resnet18") == "config argument 'archh' is unknown: did you mean arch?"
    assert refused(f"{path}:epochs=abc") == "config argument epochs=abc is not of type int"


def test_a_bare_name_is_a_file_in_configs(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (ROOT, tmp_path):  # here, and from anywhere with a checkout
        monkeypatch.chdir(folder)
        config, _ = parse(["--config=pretrain_folder:epochs=3", "--workdir=run"])
        assert (config.job, config.epochs) == ("pretrain", 3)
    assert refused("--config=pretrain_foldr") == "--config=pretrain_foldr: there is no config of that name: did you mean pretrain_folder?"


def test_a_path_may_hold_colons(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "12:30" / "mine:2.py"
    file.parent.mkdir()
    file.write_text((ROOT / "configs" / "pretrain_folder.py").read_text())
    for argument, epochs in (("", 100), (":epochs=3", 3)):
        assert parse([f"--config={file}{argument}", "--workdir=run"])[0].epochs == epochs
    missing = refused("--config=C:\\photos\\mine.py")
    assert missing.startswith("--config=C:\\photos\\mine.py: there is no such file")


def test_the_config_of_a_workdir_begins_another_run(refused: Refused, tmp_path: Path) -> None:
    folder = make_workdir(tmp_path / "first")
    config, workdir = parse([f"--config={folder}/config.json", "--config.seed=3", f"--workdir={tmp_path}/second"])
    assert (config.seed, config.batch_size, workdir) == (3, tiny_config().batch_size, f"{tmp_path}/second")
    assert config.is_locked
    assert f"{tmp_path}/config.json does not exist" in refused(f"--config={tmp_path}/config.json")


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("c.loss.temperature = 0.2", "method.temperature"),
        ("c.checkpoint.best_metric = ''", "saving.best_metric"),
        ("c.data.grid = 3", "method.grid"),
        ("c.head.embedding_dim = 3", "method.embedding_dim"),
        ("c.input = 'cells'", "method.input"),
        ("c.method = 'supervised'", "method.name"),
    ],
)
def test_a_config_file_of_the_first_version_is_told_the_new_names(refused: Refused, tmp_path: Path, line: str, new: str) -> None:
    file = tmp_path / "mine.py"
    head = "from jigclu_jax.config import pretrain_config\ndef get_config(arg=None):\n    c = pretrain_config()"
    file.write_text(f"{head}\n    {line}\n    return c\n")
    said = refused(f"--config={file}")
    assert said.startswith(f"--config={file}") and f"config.{new} " in said


# --- the workdir


def test_a_workdir_that_is_a_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for workdir in ("file", "file/below"):
        expected = f"--workdir={tmp_path / workdir}: {tmp_path / 'file'} is a file: give a folder"
        assert refused(FOLDER_CONFIG, workdir=workdir) == expected
        assert refused(workdir=workdir) == expected


def test_a_workdir_alone_without_a_run_in_it(refused: Refused, tmp_path: Path) -> None:
    expected = f"{tmp_path}/out/config.json does not exist: give --config=configs/NAME.py to start a run in {tmp_path}/out"
    assert refused() == expected
    (tmp_path / "out").mkdir()
    assert refused() == expected
    assert refused("--config.seed=1").startswith("--config.seed needs --config=FILE beside it")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "holds no config of this library"),
        ('{"seed": 1}', "holds no config of this library"),
        ('{"job": "pretrain"}', "config.method.name is missing"),
        ('{"job": "bake"}', "config.job='bake' is unknown"),
    ],
)
def test_a_workdir_alone_with_a_damaged_config(refused: Refused, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text(text)
    assert expected in refused()


def test_a_workdir_alone_goes_on_with_its_config(tmp_path: Path) -> None:
    config, workdir = parse([FOLDER_CONFIG, f"--workdir={tmp_path}/run", "--config.optimizer.milestones=3,4", "--config.seed=5"])
    open_workdir(workdir, config)
    again, same = parse([f"--workdir={tmp_path}/run"])
    assert same == workdir
    assert config_as_dict(again) == config_as_dict(config)
    assert again.optimizer.milestones == (3, 4)
    check_workdir(workdir, again)


def test_a_workdir_that_holds_another_run(refused: Refused, tmp_path: Path, images: Path) -> None:
    line = [FOLDER_CONFIG, "--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz"]
    config, workdir = parse([*line, f"--workdir={tmp_path}/out"])
    open_workdir(workdir, config)
    expected = f"{tmp_path}/out holds a run with another config (seed differs): use another workdir, or --config.force_config=True"
    assert refused(*line, "--config.seed=3") == expected
    many = refused(
        *line, *(f"--config.{name}=0.5" for name in ("method.temperature", "augment.hue", "augment.contrast")), "--config.epochs=9"
    )
    assert "(augment.contrast, augment.hue, epochs, method.temperature differ)" in many
    probe = refused(PROBE_CONFIG, f"--config.checkpoint={make_workdir(tmp_path / 'run')}", workdir="out")
    assert "holds a run with another config (" in probe and " more differ)" in probe
    # what changes nothing of what is computed may change, and a person may insist
    for harmless in ("--config.log_every_steps=1", "--config.data.threads=1", "--config.data.on_error=skip", "--config.log.pictures=0"):
        check_workdir(workdir, parse([*line, harmless, f"--workdir={workdir}"])[0])
    check_workdir(workdir, parse([*line, "--config.seed=3", "--config.force_config=True", f"--workdir={workdir}"])[0])


def test_what_a_run_without_a_checkpoint_left_is_removed_and_no_more(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    for name in ("checkpoints/3.orbax-checkpoint-tmp", "tensorboard", "pictures"):
        (begun / name).mkdir(parents=True)
    for name in ("config.json", "metrics.jsonl", "tensorboard/events", "mine.txt"):
        (begun / name).write_text("")
    discard_run(begun)
    assert list(tree(begun)) == ["mine.txt"]
    (begun / "mine.txt").unlink()
    discard_run(begun)
    assert not begun.exists()
    discard_run(begun)
    saved = make_workdir(tmp_path / "saved")
    before = tree(saved)
    discard_run(saved)
    assert tree(saved) == before


def test_an_unwritable_workdir_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("jigclu_jax.train.workdir.write_text", denied)
    with pytest.raises(UserError, match=f"^--workdir={tmp_path}/out cannot be written: Permission denied$"):
        open_workdir(tmp_path / "out", tiny_config())
