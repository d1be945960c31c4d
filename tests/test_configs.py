"""Every file in configs/: builds, is locked, says how it is used, and its training step can be computed and lowered."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from absent import batch_of
from ml_collections import ConfigDict

from jigclu_jax.config import check_best_metric, check_config, load_config, parse
from jigclu_jax.device.mesh import create_mesh
from jigclu_jax.methods import DataFacts, create_method
from jigclu_jax.models import architectures
from jigclu_jax.train.optimizer import create_optimizer
from jigclu_jax.train.schedule import create_schedule
from jigclu_jax.train.state import abstract_state
from jigclu_jax.train.step import Step, Update, compile_step
from jigclu_jax.train.workdir import config_as_dict

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path.name for path in (ROOT / "configs").glob("*.py"))
# Arguments that make another step than the defaults do
VARIANTS = {
    "finetune.py": ("preset=imagenet_1pct", "preset=cifar10,small,init=random"),
    "pretrain_folder.py": ("stem=small,image_size=66,grid=3", "method=supervised"),
    "pretrain_imagenet.py": ("bfloat16",),
    "probe_imagenet.py": ("bfloat16",),
}
# One of each job; the others are slow tests
QUICK = (
    "pretrain_imagenet.py::pretrain",
    "pretrain_folder.py:method=supervised:pretrain",
    "probe_cifar10.py::probe",
    "finetune.py::finetune",
)
CLASSES = {"imagenet": 1000}
PRETRAINED = {"arch": "resnet50", "stem": "imagenet", "width": 1.0}  # what a probe finds in its checkpoint


def _steps(config: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """The training runs that a config describes: itself, or those of a demo."""
    if "method" in config:
        yield config.job, config
        return
    for name in config:
        if isinstance(config[name], ConfigDict) and "method" in config[name]:
            yield name, config[name]


def _cases() -> Iterator[Any]:
    for file in FILES:
        for argument in (None, *VARIANTS.get(file, ())):
            for name, _ in _steps(load_config(ROOT / "configs" / file, argument)):
                case = f"{file}:{argument or ''}:{name}"
                yield pytest.param(file, argument, name, id=case, marks=() if case in QUICK else pytest.mark.slow)


def _step(file: str, argument: str | None, name: str) -> tuple[ConfigDict, Step, Any, dict[str, jax.ShapeDtypeStruct]]:
    """Config, compiled step, abstract state, abstract batch."""
    config = dict(_steps(load_config(ROOT / "configs" / file, argument)))[name].copy_and_resolve_references()
    if config.job in ("probe", "finetune"):
        config.model.update(PRETRAINED if "imagenet" in f"{file}{argument}" else {"arch": "resnet18", "stem": "small", "width": 0.25})
    check_config(config)
    if "imagenet" not in file or file.startswith("jigclu_plus"):  # depth changes no shape of the step, ResNet-50 takes long to trace
        config.model.arch = "resnet10"
    classes = CLASSES.get(file.removesuffix(".py").rpartition("_")[2], 10)
    facts = DataFacts(100 * config.batch_size, tuple(map(str, range(classes))), config.batch_size, 100)
    method = create_method(config, facts)
    judged = {"probe": ("probe_top1", "probe_top5"), "finetune": ("finetune_top1", "finetune_top5")}
    check_best_metric(config, (*judged.get(config.job, ()), *(spec.name for spec in method.metrics)))
    mesh, optimizer = create_mesh(jax.devices()[:1]), create_optimizer(config.optimizer)
    step = compile_step(method, Update(optimizer, create_schedule(config.optimizer, 100, config.epochs), 100), mesh)
    return config, step, abstract_state(method, facts, optimizer, mesh), batch_of(method, facts)


def test_the_config_files_are_those_promised() -> None:
    promised = {"pretrain_imagenet", "probe_imagenet", "pretrain_cifar10", "probe_cifar10", "pretrain_folder", "demo"}
    assert promised <= {name.removesuffix(".py") for name in FILES}


@pytest.mark.parametrize("file", FILES)
def test_a_config_is_locked_complete_and_survives_its_own_json(file: str, tmp_path: Path) -> None:
    config, _ = parse([f"--config={ROOT}/configs/{file}", f"--workdir={tmp_path}"])
    assert config.is_locked
    with pytest.raises(AttributeError):
        config.sead = 1
    check_config(config, file)
    (tmp_path / "config.json").write_text(config.to_json())
    again, _ = parse([f"--workdir={tmp_path}"])
    assert config_as_dict(again) == config_as_dict(config)


@pytest.mark.parametrize("file", FILES)
def test_the_docstring_names_command_hardware_and_expectation(file: str) -> None:
    tree = ast.parse((ROOT / "configs" / file).read_text())
    text = ast.get_docstring(tree) or ""
    commands = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip().startswith("python -m jigclu_jax ")]
    assert commands and f"--config=configs/{file}" in commands[0] and "--workdir=" in commands[0]
    assert "Hardware:" in text and "Expected:" in text
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "get_config")
    documented = re.findall(r"\w+", (ast.get_docstring(function) or "").partition(":")[2])
    call = next(node for node in ast.walk(function) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "parse_arg")
    for argument in call.keywords:
        assert argument.arg in documented, f"argument {argument.arg} is not in the docstring"


@pytest.mark.parametrize("file", FILES)
def test_every_command_of_a_docstring_is_understood(file: str) -> None:
    text = (ast.get_docstring(ast.parse((ROOT / "configs" / file).read_text())) or "").replace("\\\n", " ")
    commands = re.findall(r"python -m jigclu_jax (.*)", text)
    for command in commands:
        arguments = [word.replace("--config=configs/", f"--config={ROOT}/configs/") for word in command.split() if word != "..."]
        config, workdir = parse(arguments)
        assert workdir.startswith("runs/")
        check_config(config, command)


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ResNet-50 of five blocks, of every kind that it has: models/test_resnet.py lowers the whole one, which takes long to trace."""
    monkeypatch.setitem(architectures._TABLE, "resnet50", architectures.Architecture((1, 2, 1, 1), bottleneck=True))


@pytest.mark.parametrize(("file", "argument", "name"), list(_cases()))
def test_one_training_step_has_consistent_shapes_and_is_lowered_for_accelerators(
    shallow: None, file: str, argument: str | None, name: str
) -> None:
    _, step, state, batch = _step(file, argument, name)
    exported = jax.export.export(step, platforms=("tpu", "cuda"))(jax.tree.map(_plain, state), batch)
    after, metrics = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (state, after))
    assert shapes[0] == shapes[1], "a step must give back a state like the one it was given"
    assert {"loss", "gradient_norm", "learning_rate"} <= metrics.keys()
    assert all(value.shape == () and jnp.issubdtype(value.dtype, jnp.floating) for value in metrics.values())
    assert exported.platforms == ("tpu", "cuda")
    assert "convolution" in exported.mlir_module()


def _plain(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def test_pretrain_imagenet_is_the_papers_recipe() -> None:
    """Constants of the paper (section 4) and, where it is silent, of the authors' code."""
    config = load_config(ROOT / "configs" / "pretrain_imagenet.py")
    assert (config.job, config.method.name) == ("pretrain", "jigclu")
    assert (config.batch_size, config.epochs) == (256, 200)
    model = {"arch": "resnet50", "stem": "imagenet", "width": 1.0, "dtype": "float32", "precision": "default"}
    assert config.model.to_dict() == model | {"space_to_depth": False, "remat": False}
    assert (config.method.grid, config.method.overlap, config.data.image_size) == (2, 0.3, 224)
    assert config.data.image_size // config.method.grid == 112
    assert config.method.shuffle_group in (0, 256)  # the whole batch
    assert config.augment.to_dict() == {
        "crop_area": (0.2, 1.0),
        "crop_aspect": (3 / 4, 4 / 3),
        "jitter_probability": 0.8,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.1,
        "grayscale_probability": 0.2,
        "blur_probability": 0.5,
        "blur_sigma": (0.1, 2.0),
        "solarize_probability": 0.0,
        "solarize_threshold": 128,
        "flip_probability": 0.5,
    }
    assert (config.method.temperature, config.method.base_temperature) == (0.3, 0.07)
    assert (config.method.cluster_weight, config.method.location_weight) == (1.0, 1.0)
    assert (config.method.embedding_dim, config.method.decouple_size) == (128, 0)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay) == (0.03, 0.9, 1e-4)
    assert (optimizer.schedule, optimizer.per_epoch, optimizer.warmup_epochs) == ("cosine", True, 0.0)
    assert (config.data.source, config.data.name, config.data.split, config.data.limit) == ("tfds", "imagenet2012", "train", 0)


def test_probe_imagenet_is_the_papers_protocol() -> None:
    config = load_config(ROOT / "configs" / "probe_imagenet.py")
    assert (config.job, config.method.name, config.batch_size, config.epochs) == ("probe", "linear", 256, 100)
    optimizer = config.optimizer
    assert (optimizer.learning_rate, optimizer.momentum, optimizer.weight_decay) == (10.0, 0.9, 0.0)
    assert (optimizer.schedule, optimizer.milestones, optimizer.gamma, optimizer.per_epoch) == ("step", (60, 80), 0.1, True)
    assert optimizer.warmup_epochs == 0.0
    augment = config.augment
    assert (augment.crop_area, augment.crop_aspect, augment.flip_probability) == ((0.08, 1.0), (3 / 4, 4 / 3), 0.5)
    assert (augment.jitter_probability, augment.grayscale_probability, augment.blur_probability) == (0.0, 0.0, 0.0)
    assert (config.data.image_size, config.eval_data.resize, config.eval_data.crop) == (224, 256, 224)
    assert (config.data.split, config.eval_data.split) == ("train", "validation")
    assert load_config(ROOT / "configs" / "probe_imagenet.py", "learning_rate=1").optimizer.learning_rate == 1.0


def test_arguments_change_what_they_say() -> None:
    folder = load_config(
        ROOT / "configs" / "pretrain_folder.py", "arch=resnet50,stem=small,width=0.5,image_size=66,grid=3,batch_size=32,epochs=7"
    )
    assert (folder.model.arch, folder.model.stem, folder.model.width, folder.model.dtype) == ("resnet50", "small", 0.5, "float32")
    assert (folder.data.image_size, folder.method.grid, folder.batch_size, folder.epochs) == (66, 3, 32, 7)
    cifar = load_config(ROOT / "configs" / "probe_cifar10.py", "epochs=50,learning_rate=0.5")
    assert (cifar.epochs, cifar.optimizer.milestones, cifar.optimizer.learning_rate) == (50, (30, 40), 0.5)
    demo = load_config(ROOT / "configs" / "demo.py", "epochs=2,probe_epochs=10,supervised_epochs=3,limit=256,width=0.125,seed=9")
    assert (demo.pretrain.epochs, demo.supervised.epochs, demo.probe.epochs, demo.probe.optimizer.milestones) == (2, 3, 10, (6, 8))
    assert {demo.seed, demo.pretrain.seed, demo.supervised.seed, demo.probe.seed} == {9}
    assert {demo.pretrain.data.limit, demo.supervised.data.limit, demo.probe.data.limit} == {256}
    assert demo.pretrain.model == demo.supervised.model and demo.pretrain.model.width == 0.125
