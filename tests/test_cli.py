"""The command line as a stranger meets it: every mistake is one line on stderr that starts with `error:`, exit code 2, nothing written."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_checkpoint import make_workdir, tiny_config

from jigclu_jax import cli
from jigclu_jax.__main__ import main
from jigclu_jax.data.stream import BatchStream
from jigclu_jax.errors import ImageError, UserError
from jigclu_jax.train.workdir import check_workdir, config_as_dict, discard_run, open_workdir

ROOT = Path(__file__).resolve().parent.parent
FOLDER_CONFIG = f"--config={ROOT}/configs/pretrain_folder.py:stem=small,width=0.05,image_size=32,batch_size=8,epochs=1"
PROBE_CONFIG = f"--config={ROOT}/configs/probe_cifar10.py:batch_size=8,epochs=1"
Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def keep_signal_handler() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Runs a command that must be refused, with `--workdir` appended, and gives what it said after `error: `."""

    def run(*arguments: str, workdir: str | None = "out") -> str:
        before = _tree(tmp_path)
        line = [*arguments, f"--workdir={tmp_path / workdir}"] if workdir else list(arguments)
        code = main(line)
        out, err = capfd.readouterr()
        assert (code, out) == (2, ""), err
        assert err.startswith("error: ") and err.count("\n") == 1, err
        assert _tree(tmp_path) == before, "something was written"
        return err.removeprefix("error: ").rstrip("\n")

    return run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Array files and folders of small images."""
    root = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 40, 3), np.uint8)
    np.savez(root / "labelled.npz", image=pixels, label=np.arange(40) % 4)
    np.savez(root / "unlabelled.npz", image=pixels)
    np.savez(root / "one_class.npz", image=pixels, label=np.zeros(40, np.int32))
    for split, count in (("train", 12), ("val", 4)):
        for index in range(count):
            folder = root / "tree" / split / f"class{index % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[index]).save(folder / f"{index}.png")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("pretrained") / "run")


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


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
        ("--config.job=train", "config.job='train' is unknown: use one of pretrain, probe, demo"),
    ],
)
def test_an_argument_that_is_wrong(refused: Refused, argument: str, expected: str) -> None:
    assert expected in refused(FOLDER_CONFIG, argument)


def test_overrides_reach_the_config_in_any_order_and_form(tmp_path: Path) -> None:
    first = cli.parse([FOLDER_CONFIG, f"--workdir={tmp_path}", "--config.seed=7", "--config.model.arch=resnet34", "--config.force_config"])
    second = cli.parse(["--config.seed", "7", "--config.force_config=1", "--config.model.arch", "resnet34", "--workdir", str(tmp_path), FOLDER_CONFIG])
    assert config_as_dict(first[0]) == config_as_dict(second[0])
    assert first[1] == second[1] == str(tmp_path)
    config = first[0]
    assert (config.seed, config.model.arch, config.force_config, config.batch_size) == (7, "resnet34", True, 8)
    assert config.is_locked


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.parse([FOLDER_CONFIG, "--workdir=~/run"])[1] == str(tmp_path / "run")
    assert cli.parse([FOLDER_CONFIG, "--workdir=gs://bucket/run"])[1] == "gs://bucket/run"


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    assert capfd.readouterr().out.startswith("usage: python -m jigclu_jax --config=")


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
            ": config.augment.blur_probability is missing: start from pretrain_config() of jigclu_jax.config",
        ),
        (
            "from jigclu_jax.config import probe_config\ndef get_config(arg=None):\n    c = probe_config()\n    c.epochs = 'ten'\n    return c",
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
        ('{"job": "pretrain"}', "config.augment.blur_probability is missing"),
        ('{"job": "bake"}', "config.job='bake' is unknown"),
    ],
)
def test_a_workdir_alone_with_a_damaged_config(refused: Refused, tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text(text)
    assert expected in refused()


def test_a_workdir_alone_goes_on_with_its_config(tmp_path: Path) -> None:
    config, workdir = cli.parse([FOLDER_CONFIG, f"--workdir={tmp_path}/run", "--config.optimizer.milestones=3,4", "--config.seed=5"])
    open_workdir(workdir, config)
    again, same = cli.parse([f"--workdir={tmp_path}/run"])
    assert same == workdir
    assert config_as_dict(again) == config_as_dict(config)
    assert again.optimizer.milestones == (3, 4)
    check_workdir(workdir, again)


def test_a_workdir_that_holds_another_run(refused: Refused, tmp_path: Path, images: Path) -> None:
    line = [FOLDER_CONFIG, "--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz"]
    config, workdir = cli.parse([*line, f"--workdir={tmp_path}/out"])
    open_workdir(workdir, config)
    expected = f"{tmp_path}/out holds a run with another config (seed differs): use another workdir, or --config.force_config=True"
    assert refused(*line, "--config.seed=3") == expected
    many = refused(*line, *(f"--config.{name}=0.5" for name in ("loss.temperature", "augment.hue", "augment.contrast")), "--config.epochs=9")
    assert "(augment.contrast, augment.hue, epochs, loss.temperature differ)" in many
    probe = refused(PROBE_CONFIG, f"--config.checkpoint={make_workdir(tmp_path / 'run')}", workdir="out")
    assert "holds a run with another config (" in probe and " more differ)" in probe
    # what changes nothing of what is computed may change, and a person may insist
    for harmless in ("--config.log_every_steps=1", "--config.data.threads=1", "--config.data.on_error=skip", "--config.log.pictures=0"):
        check_workdir(workdir, cli.parse([*line, harmless, f"--workdir={workdir}"])[0])
    check_workdir(workdir, cli.parse([*line, "--config.seed=3", "--config.force_config=True", f"--workdir={workdir}"])[0])


# --- what a pretraining run is given


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--config.method=simclr", "config.method='simclr' is unknown: use one of jigclu, supervised"),
        ("--config.method=linear", "config.method='linear' is no method of a pretrain job"),
        ("--config.method=supervised", "needs images of at least two classes"),
        ("--config.model.arch=resnet19", 'model.arch="resnet19" is unknown: did you mean "resnet18"?'),
        ("--config.model.stem=smal", 'model.stem="smal" is unknown: did you mean "small"?'),
        ("--config.model.dtype=float16", 'model.dtype="float16" is unknown: did you mean "bfloat16"?'),
        ("--config.model.width=0", "model.width=0"),
        ("--config.optimizer.schedule=linear", "config.optimizer.schedule='linear' is unknown: use one of cosine, step, constant"),
        ("--config.optimizer.warmup_epochs=5", "config.optimizer.warmup_epochs=5.0 must lie in 0..1"),
        ("--config.checkpoint.best_metric=acc", "config.checkpoint.best_metric='acc' is not measured by this run"),
        ("--config.data.grid=3", "data.image_size=32 is not a multiple of data.grid=3: the nearest that are, are 30 and 33"),
        ("--config.data.grid=1", "data.grid=1 makes no montage"),
        ("--config.data.overlap=0.9", "data.overlap=0.9 is outside of [0, 0.5)"),
        ("--config.data.shuffle_group=3", "data.shuffle_group=3 does not divide"),
        ("--config.data.on_error=ignore", "config.data.on_error='ignore' is unknown: use 'stop' or 'skip'"),
        ("--config.data.source=foldr", "config.data: source='foldr': no such source: did you mean 'folder'?"),
        ("--config.data.split=val", "config.data: "),
        ("--config.data.limit=100", "has only 40 images"),
        ("--config.batch_size=64", "holds 40 images, fewer than one batch of config.batch_size=64"),
        ("--config.augment.crop_area=0.2", "augment.crop_area=(0.2,) is not a range"),
        ("--config.augment.hue=2", "augment.hue=2 is outside of [0, 0.5]"),
    ],
)
def test_a_pretraining_that_cannot_work(refused: Refused, images: Path, argument: str, expected: str) -> None:
    assert expected in refused(FOLDER_CONFIG, "--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", argument)


def test_a_source_that_is_missing_or_empty(refused: Refused, images: Path) -> None:
    assert refused(FOLDER_CONFIG).startswith("config.data: path='': source 'folder' needs path")
    assert refused(FOLDER_CONFIG, "--config.data.path=/nope").startswith("config.data: /nope: no such folder")
    assert refused(FOLDER_CONFIG, f"--config.data.path={images}/empty").startswith(f"config.data: {images}/empty: no images in this folder")
    assert "a file, not a folder" in refused(FOLDER_CONFIG, f"--config.data.path={images}/labelled.npz")


# --- what a probe is given


def _probe(images: Path, checkpoint: Path | str, source: str = "labelled.npz") -> list[str]:
    place = ["--config.data.source=arrays", f"--config.data.path={images}/{source}", "--config.data.split=", "--config.eval_data.split="]
    return [PROBE_CONFIG, *place, f"--config.checkpoint={checkpoint}"]


def test_a_checkpoint_that_is_not_there(refused: Refused, images: Path, pretrained: Path, tmp_path: Path) -> None:
    assert refused(PROBE_CONFIG).startswith("config.checkpoint is empty: give the workdir of a pretraining run")
    assert refused(*_probe(images, "/nope")).startswith("checkpoint /nope does not exist")
    assert "holds no checkpoints/ folder" in refused(*_probe(images, pretrained / "checkpoints"))
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    assert "holds no complete checkpoint" in refused(*_probe(images, tmp_path / "begun"))
    (tmp_path / "begun" / "checkpoints" / "5.orbax-checkpoint-tmp").mkdir()
    assert "holds no complete checkpoint" in refused(*_probe(images, tmp_path / "begun"))
    assert "holds no step 7: it holds [5]" in refused(*_probe(images, pretrained), "--config.checkpoint_which=7")
    assert "checkpoint 'newest' is unknown" in refused(*_probe(images, pretrained), "--config.checkpoint_which=newest")


def test_a_checkpoint_of_another_trunk(refused: Refused, images: Path, pretrained: Path) -> None:
    for argument, name, own in (("arch=resnet50", "arch", "resnet18"), ("stem=imagenet", "stem", "small"), ("width=0.5", "width", "0.05")):
        said = refused(*_probe(images, pretrained), f"--config.model.{argument}")
        assert said.startswith(f"config.checkpoint={pretrained} belongs to another trunk: its model.{name} is ") and own in said


def test_a_checkpoint_of_a_probe(refused: Refused, images: Path, tmp_path: Path) -> None:
    folder = make_workdir(tmp_path / "probe", tiny_config("probe"), classes=("a", "b"))
    assert refused(*_probe(images, folder)) == f"config.checkpoint={folder} is the workdir of a probe job: give a pretraining run's"


def test_a_probe_without_labels(refused: Refused, images: Path, pretrained: Path) -> None:
    assert "has no labels, and a probe needs them" in refused(*_probe(images, pretrained, "unlabelled.npz"))
    assert "needs images of at least two classes" in refused(*_probe(images, pretrained, "one_class.npz"))
    tree = [PROBE_CONFIG, "--config.data.source=folder", f"--config.data.path={images}/tree", f"--config.checkpoint={pretrained}"]
    assert "has no labels, and a probe needs them" in refused(*tree, "--config.data.split=")
    assert refused(*tree).startswith(f"config.eval_data: {images}/tree: no folder 'test' in it, it has train, val")


def test_numbers_and_metrics_of_a_probe(refused: Refused, images: Path, pretrained: Path) -> None:
    assert "config.eval_batch_size=0 must be at least 1" in refused(*_probe(images, pretrained), "--config.eval_batch_size=0")
    assert "config.saving.best_metric='loss_cluster' is not measured" in refused(
        *_probe(images, pretrained), "--config.saving.best_metric=loss_cluster"
    )
    assert "config.method='jigclu' is no method of a probe job" in refused(*_probe(images, pretrained), "--config.method=jigclu")


# --- mistakes that come to light while the run goes on


class DamagedStream(BatchStream):
    """Batches of a source whose first image does not decode."""

    def __init__(self, *_: object, **__: object) -> None:
        self._skipped: dict[int, str] = {}

    @property
    def skipped(self) -> dict[int, str]:
        return self._skipped

    def __next__(self) -> dict[str, np.ndarray]:
        raise ImageError("/photos/7.jpg: truncated JPEG")

    def close(self) -> None:
        pass


def test_a_damaged_image_leaves_no_begun_run(refused: Refused, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jigclu_jax.jobs.training.train_batches", DamagedStream)
    line = [FOLDER_CONFIG, "--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz", "--config.log.tensorboard=0"]
    assert refused(*line) == "/photos/7.jpg: truncated JPEG"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert refused(*line) == "/photos/7.jpg: truncated JPEG"


def test_what_a_run_without_a_checkpoint_left_is_removed_and_no_more(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    for name in ("checkpoints/3.orbax-checkpoint-tmp", "tensorboard", "pictures"):
        (begun / name).mkdir(parents=True)
    for name in ("config.json", "metrics.jsonl", "tensorboard/events", "mine.txt"):
        (begun / name).write_text("")
    discard_run(begun)
    assert list(_tree(begun)) == ["mine.txt"]
    (begun / "mine.txt").unlink()
    discard_run(begun)
    assert not begun.exists()
    discard_run(begun)
    saved = make_workdir(tmp_path / "saved")
    before = _tree(saved)
    discard_run(saved)
    assert _tree(saved) == before


def test_an_unwritable_workdir_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("jigclu_jax.train.workdir.write_text", denied)
    with pytest.raises(UserError, match=f"^--workdir={tmp_path}/out cannot be written: Permission denied$"):
        open_workdir(tmp_path / "out", tiny_config())


# --- whole processes


def _process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "JAX_NUM"))} | environment
    return subprocess.run([sys.executable, "-m", "jigclu_jax", *arguments], capture_output=True, text=True, timeout=300, env=env, cwd=ROOT)


def test_a_batch_that_eight_devices_cannot_share(images: Path, tmp_path: Path) -> None:
    source = ["--config.data.source=arrays", f"--config.data.path={images}/unlabelled.npz"]
    done = _process(FOLDER_CONFIG, *source, "--config.batch_size=12", f"--workdir={tmp_path}/out", JAX_NUM_CPU_DEVICES="8")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: config.batch_size=12 cannot be shared by 8 devices: use 8 or 16\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("minimum", [-1, 64])
def test_an_image_that_cannot_be_used_stops_the_run_with_one_line(images: Path, tmp_path: Path, minimum: int) -> None:
    """Through the real pipeline: neither TensorFlow nor JAX may add a line of its own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, file in enumerate(sorted((images / "tree" / "train").rglob("*.png"))):
        (folder / f"{index}.png").write_bytes(file.read_bytes())
    if minimum < 0:
        (folder / "3.png").write_bytes(b"no image at all")
    done = _process(FOLDER_CONFIG, f"--config.data.path={folder}", f"--config.data.min_side={minimum}", f"--workdir={tmp_path}/out")
    expected = f"error: {folder}/3.png: not an image" if minimum < 0 else f"error: {folder}/"
    assert done.returncode == 2
    assert done.stderr.startswith(expected) and done.stderr.count("\n") == 1, done.stderr
    assert "smaller than data.min_side=64" in done.stderr or minimum < 0
    assert not (tmp_path / "out").exists()
