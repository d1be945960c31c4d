"""The command line as a stranger meets it: every mistake is one line on stderr that starts with `error:`, exit code 2, nothing written."""

import ast
from pathlib import Path

import pytest
from named_errors import assert_names, raises_naming
from refusals import FOLDER_CONFIG, PROBE_CONFIG, ROOT, Refused, images, keep_signal_handler, refused, tree
from tiny_checkpoint import make_workdir, tiny_config

import jigclu_jax
from jigclu_jax.__main__ import main
from jigclu_jax.config import parse
from jigclu_jax.config.jobs import JOBS
from jigclu_jax.train.workdir import check_workdir, config_as_dict, discard_run, open_workdir

__all__ = ["images", "keep_signal_handler", "refused"]  # fixtures


# --- the line itself


def test_a_line_without_a_workdir(refused: Refused) -> None:
    for line in ([], [FOLDER_CONFIG], ["--workdir"], ["--workdir="], [FOLDER_CONFIG, "--workdir="]):
        assert_names(refused(*line, workdir=None), "--workdir=DIR", "usage: python -m jigclu_jax --config=")
    assert_names(refused(FOLDER_CONFIG, "--workdir=https://host/run", workdir=None), "--workdir=https://host/run", "gs://")


@pytest.mark.parametrize(
    ("argument", "names"),
    [
        ("--bogus=1", ("--bogus", "usage: python -m jigclu_jax")),
        ("--confg=x.py", ("--confg", "--config?")),
        ("extra", ("'extra'", "--config.name=value")),
        ("--config.seeed=1", ("config.seeed", f"{ROOT}/configs/pretrain_folder.py", "config.seed?")),
        ("--noconfig.optimizer.per_epohc", ("config.optimizer.per_epoch?",)),
        ("--config.epochs=5.5", ("config.epochs=5.5", " int")),
        ("--config.optimizer.learning_rate=fast", ("config.optimizer.learning_rate=fast", " float")),
        ("--config.optimizer.per_epoch=yes", ("config.optimizer.per_epoch=yes", " bool")),
        ("--config.optimizer.milestones=(a,b)", ("config.optimizer.milestones=(a,b)", " tuple")),
        ("--config.job=train", ("config.job='train'", "pretrain, probe, ")),
    ],
)
def test_an_argument_that_is_wrong(refused: Refused, argument: str, names: tuple[str, ...]) -> None:
    assert_names(refused(FOLDER_CONFIG, argument), *names)


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
    ("text", "names"),
    [
        ("raise RuntimeError('boom')", ("line 1", "RuntimeError: boom")),
        ("x = 1\ndef get_config(arg=None):\n    return {}['x']", ("line 3", "KeyError: 'x'")),
        ("def get_config(:", ("line 1", "SyntaxError")),
        ("import no_such_module", ("line 1", "'no_such_module'")),
        ("x = 1", ("get_config(arg)",)),
        ("def get_config(arg=None): pass", ("get_config", "NoneType", "ml_collections.ConfigDict")),
        ("def get_config(arg=None): return {'job': 'pretrain'}", ("get_config", "dict")),
        ("from ml_collections import ConfigDict\ndef get_config(arg=None): return ConfigDict({'seed': 1})", ("`job`",)),
        (
            "from ml_collections import ConfigDict\ndef get_config(arg=None): return ConfigDict({'job': 'pretrain'})",
            ("config.method.name", "pretrain_config()"),
        ),
        (
            "from jigclu_jax.config import probe_config\ndef get_config(arg=None):\n    c = probe_config()\n    c.epochs = 'ten'",
            ("line 4", "TypeError"),
        ),
    ],
)
def test_a_config_file_that_is_wrong(refused: Refused, tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text + "\n")
    assert_names(refused(f"--config={file}"), f"--config={file}", *names)


def test_a_config_file_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    assert_names(refused(f"--config={tmp_path}/nope.py"), f"--config={tmp_path}/nope.py")
    near = refused(f"--config={ROOT}/configs/pretrain_cifar.py")
    assert_names(near, f"--config={ROOT}/configs/pretrain_cifar.py", f"{ROOT}/configs/pretrain_cifar10.py?")
    assert_names(refused(f"--config={ROOT}/configs"), f"--config={ROOT}/configs")
    assert_names(refused("--config="), "--config")


def test_arguments_of_the_config_file(refused: Refused, tmp_path: Path) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text("from jigclu_jax.config import pretrain_config\ndef get_config(): return pretrain_config()\n")
    assert_names(refused(f"--config={plain}:a=1"), f"--config={plain}:a=1", "get_config()", "':a=1'")
    path = f"--config={ROOT}/configs/pretrain_folder.py"
    assert_names(refused(f"{path}:archh=resnet18"), "'archh'", "arch?")
    assert_names(refused(f"{path}:epochs=abc"), "epochs=abc", " int")


def test_a_bare_name_is_a_file_in_configs(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (ROOT, tmp_path):  # here, and from anywhere with a checkout
        monkeypatch.chdir(folder)
        config, _ = parse(["--config=pretrain_folder:epochs=3", "--workdir=run"])
        assert (config.job, config.epochs) == ("pretrain", 3)
    assert_names(refused("--config=pretrain_foldr"), "--config=pretrain_foldr", "pretrain_folder?")


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
    assert_names(refused(f"--config={tmp_path}/config.json"), f"{tmp_path}/config.json")


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
    assert_names(said, f"--config={file}", f"config.{new} ")


# --- the workdir


def test_a_workdir_that_is_a_file(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for workdir in ("file", "file/below"):
        for said in (refused(FOLDER_CONFIG, workdir=workdir), refused(workdir=workdir)):
            assert_names(said, f"--workdir={tmp_path / workdir}", f"{tmp_path / 'file'} is a file")


def test_a_workdir_alone_without_a_run_in_it(refused: Refused, tmp_path: Path) -> None:
    assert_names(refused(), f"{tmp_path}/out/config.json", "--config=configs/NAME.py")
    (tmp_path / "out").mkdir()
    assert_names(refused(), f"{tmp_path}/out/config.json", "--config=configs/NAME.py")
    assert_names(refused("--config.seed=1"), "--config.seed", "--config=FILE")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("{", "JSON"),
        ("[1]", "JSON object"),
        ('{"seed": 1}', "job"),
        ('{"job": "pretrain"}', "config.method.name"),
        ('{"job": "bake"}', "config.job='bake'"),
    ],
)
def test_a_workdir_alone_with_a_damaged_config(refused: Refused, tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text(text)
    assert_names(refused(), f"{tmp_path}/out/config.json", name)


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
    assert_names(refused(*line, "--config.seed=3"), f"{tmp_path}/out", "(seed ", "--config.force_config=True")
    many = refused(
        *line, *(f"--config.{name}=0.5" for name in ("method.temperature", "augment.hue", "augment.contrast")), "--config.epochs=9"
    )
    assert_names(many, f"{tmp_path}/out", "(augment.contrast, augment.hue, epochs, method.temperature ")
    probe = refused(PROBE_CONFIG, f"--config.checkpoint={make_workdir(tmp_path / 'run')}", workdir="out")
    assert_names(probe, f"{tmp_path}/out", " more ")
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
    with raises_naming(f"--workdir={tmp_path}/out", "Permission denied"):
        open_workdir(tmp_path / "out", tiny_config())
