"""The rules that keep the house in order: who imports whom, what is imported when, where files are opened (docs/architecture.md)."""

import ast
import functools
import itertools
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tiny_checkpoint import make_workdir

from jigclu_jax.errors import counted

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "jigclu_jax"
MODULES = sorted(PACKAGE.rglob("*.py"))
# The way of an image through the program; each imports what stands before it.
FOLDERS = (
    "data",
    "ops",
    "device",
    "models",
    "losses",
    "pseudo_labels",
    "methods",
    "train",
    "evals",
    "interop",
    "report",
    "jobs",
    "studies",
)
# What every folder may use, and the last folder of FOLDERS that the other modules at the root may.
COMMON = ("errors", "metrics", "config", "atomic_file", "json_file", "run_scope", "first_signals")
ABOVE = {"encoder": "interop", "calls": "jobs", "__main__": "jobs", "__init__": "train"}
MOST_LINES = {"jigclu_jax": 350, "configs": 150, "tests": 400, "benchmarks": 350, "notebooks": 350, "launch": 350}
TENSORFLOW = {"tensorflow", "tensorflow_datasets", "clu", "grain", "array_record"}

# A child process in which some packages are not installed: `python -c HIDE + code`.
HIDE = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in {names!r} else self.finder.find_spec(name, *rest)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str) -> str:
    """The folder, or the root-level module, that a module of the package belongs to."""
    return [*module.split("."), "__init__"][1]


def _imports(tree: ast.AST) -> Iterator[tuple[str, ast.stmt]]:
    """(full module name, statement) of each import; of `from a import b`, a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield node.module or "", node
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node


@functools.cache
def _parsed() -> dict[str, ast.Module]:
    return {_name(path): ast.parse(path.read_text()) for path in MODULES}


def _run(code: str, *missing: str) -> str:
    text = (HIDE.format(names=set(missing)) if missing else "") + code
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _modules_of(*rooms: str) -> list[str]:
    return [_name(path) for path in MODULES if _room(_name(path)) in rooms]


def test_every_folder_has_its_place_in_the_order() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders <= {"config", *FOLDERS}, "a new folder: put it into FOLDERS here and into docs/architecture.md"
    plain = {path.stem for path in PACKAGE.glob("*.py")}
    assert plain <= {*COMMON, *ABOVE}, "a new module at the root: is it common to all, or what does it stand on?"


def test_a_folder_imports_only_folders_above_it() -> None:
    broken = []
    for module, tree in _parsed().items():
        room = _room(module)
        allowed = set(COMMON)
        if room in FOLDERS:
            allowed |= set(FOLDERS[: FOLDERS.index(room) + 1])
        elif room in ABOVE:
            allowed |= {room, "encoder", *(("calls",) if room == "__main__" else ()), *FOLDERS[: FOLDERS.index(ABOVE[room]) + 1]}
        for name, _ in _imports(tree):
            if name.startswith("jigclu_jax.") and name != "jigclu_jax.__version__" and _room(name) not in allowed:
                broken.append(f"{module} imports {name}")
    assert not broken


def test_there_are_no_import_circles() -> None:
    """Imports inside functions count, but for the package's lazy `load_encoder`."""
    trees = _parsed()
    graph = {
        module: sorted({name for name, _ in _imports(tree) if name in trees and name not in (module, "jigclu_jax")})
        for module, tree in trees.items()
        if module != "jigclu_jax"
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for name in graph.get(module, []):
                visit(name, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
    assert done == set(graph)


def test_the_host_pipeline_never_imports_jax() -> None:
    modules = _modules_of("data")
    assert len(modules) > 10
    for module in modules:
        for name, _ in _imports(_parsed()[module]):
            assert name.partition(".")[0] not in ("jax", "jaxlib", "flax", "optax", "orbax"), f"{module} imports {name}"
    code = f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += "print(sorted({'jax', 'tensorflow'} & set(sys.modules)))"
    assert _run(code, "jax", "jaxlib", "flax", "optax", "orbax") == "[]\n"


def test_tensorflow_is_imported_in_functions_of_the_pipeline_and_the_metric_writer() -> None:
    found = set()
    for module, tree in _parsed().items():
        top = {
            id(node) for statement in tree.body for node in ast.walk(statement) if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        }
        for name, node in _imports(tree):
            if name.partition(".")[0] in TENSORFLOW:
                assert id(node) not in top, f"{module} imports {name} when it is imported itself"
                found.add(module if _room(module) != "data" else "data")
    assert found == {"data", "jigclu_jax.train.writers"}


def test_only_models_import_flax() -> None:
    users = {_room(module) for module, tree in _parsed().items() for name, _ in _imports(tree) if name.partition(".")[0] == "flax"}
    assert users == {"models"}


def test_nothing_outside_of_methods_and_configurations_names_a_method() -> None:
    """Neither by its file, nor by its name, nor by its type; `config/` holds what each job has where nothing is said."""
    names = {path.stem for path in (PACKAGE / "methods").glob("*.py")} - {"__init__"}
    types = {node.name for name in names for node in _parsed()[f"jigclu_jax.methods.{name}"].body if isinstance(node, ast.ClassDef)}
    assert {"jigclu", "simclr", "supervised"} <= names and {"JigClu", "SimCLR"} <= types
    broken = []
    for module, tree in _parsed().items():
        if _room(module) in ("methods", "config"):
            continue
        broken += [f"{module} imports {name}" for name, _ in _imports(tree) if name.removeprefix("jigclu_jax.methods.") in names]
        broken += [f"{module} asks for {node.id}" for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in types]
        pieces = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        words = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in pieces]
        texts = {node.value for node in words if isinstance(node.value, str)}
        if module != "jigclu_jax.jobs.demo":  # where it is the name of a folder
            broken += [f"{module} names {text!r}" for text in texts & names]
    assert not broken


def test_a_number_and_its_noun_agree() -> None:
    """`errors.counted` writes "1 image" and "2 images"; in a text of its own a number may be 1 before a plural."""
    wrong = []
    for module, tree in _parsed().items():
        for text in (node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)):
            for value, after in itertools.pairwise(text.values):
                number = isinstance(value, ast.FormattedValue) and ast.unparse(value.value) != "name"
                words = after.value if number and isinstance(after, ast.Constant) else ""
                if re.match(r" (images|files|classes|records|runs|epochs|crops|heads)\b(?!/s)", str(words)):
                    wrong.append(f"{module}: {ast.unparse(text)}")
    assert not wrong
    assert [counted(number, noun) for number, noun in ((1, "class"), (2, "class"), (1000, "epoch"))] == [
        "1 class",
        "2 classes",
        "1,000 epochs",
    ]


def test_no_module_needs_its_docstrings() -> None:
    """`python -OO` leaves them out."""
    names = {module for module, tree in _parsed().items() for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "__doc__"}
    assert not names


def test_a_training_step_is_jitted_in_one_place() -> None:
    """`jax.jit` elsewhere is for other things, each listed here with what it is; `pmap` and `nnx.jit` have no place."""
    jitted = {
        module
        for module, tree in _parsed().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in ("jit", "pmap") and ast.unparse(node) != "re.jit"
    }
    assert jitted == {
        "jigclu_jax.train.step",
        "jigclu_jax.device.feed",  # one batch outside of a step: pictures and measurements
        "jigclu_jax.studies.cost",  # lowered to count its operations, never run
        "jigclu_jax.train.state",  # making the state at step 0
        "jigclu_jax.evals.classification",  # counting right answers
        "jigclu_jax.evals.embeddings",  # the cells of a montage batch
        "jigclu_jax.evals.features",  # the backbone's one pass
        "jigclu_jax.evals.heads",  # linear heads on features
        "jigclu_jax.evals.knn",  # nearest neighbours of a chunk
        "jigclu_jax.evals.logistic",  # the solver of the baselines
        "jigclu_jax.evals.scale",  # the size of a backbone's features
        "jigclu_jax.encoder",  # features for notebooks
        "jigclu_jax.interop.export_formats",  # what is exported for serving
        "jigclu_jax.pseudo_labels.kmeans",  # labels of a whole set, between epochs; the same for the next two
        "jigclu_jax.pseudo_labels.sinkhorn",
        "jigclu_jax.pseudo_labels.whitening",
    }
    text = "\n".join(path.read_text() for path in MODULES)
    assert "pmap" not in text and "nnx.jit" not in text


def test_files_of_a_workdir_go_through_epath() -> None:
    """`open`, `os` and `pathlib` reach local disks alone; what is listed is guarded by `is_remote`, or no workdir's."""
    local = {
        "jigclu_jax.atomic_file": {"open"},  # fsync of a local file
        "jigclu_jax.train.writers": {"open"},  # appending to a local file
        "jigclu_jax.train.workdir": {"Path"},  # the checkout of this package
        "jigclu_jax.config.jobs": {"Path"},  # the folder of the methods
        "jigclu_jax.config.help": {"Path"},
        "jigclu_jax.config.command_line": {"Path"},  # the config file, which is Python code
    }
    broken = []
    for module, tree in _parsed().items():
        if _room(module) in ("data", "interop"):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            if call in ("open", "io.open", "Path", "pathlib.Path") or call.startswith(("os.path.", "shutil.r", "shutil.c", "shutil.m")):
                if call not in local.get(module, set()):
                    broken.append(f"{module} line {node.lineno}: {call}")
            elif call in {"os.makedirs", "os.mkdir", "os.listdir", "os.remove", "os.replace", "os.rename", "os.unlink", "os.stat"}:
                broken.append(f"{module} line {node.lineno}: {call}")
    assert not broken


def test_files_stay_short() -> None:
    files = [(path, most) for folder, most in MOST_LINES.items() for path in (ROOT / folder).rglob("*.py")]
    assert not {str(path): lines for path, most in files if (lines := len(path.read_text().splitlines())) > most}
    assert not {path.stem for path, _ in files} & {"utils", "util", "helpers", "misc", "common"}


def test_every_module_says_what_it_is_for() -> None:
    assert not [module for module, tree in _parsed().items() if not ast.get_docstring(tree)]


def test_importing_the_package_takes_no_time_and_no_framework() -> None:
    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        return time.perf_counter() - start

    pairs = [(seconds("pass"), seconds("import jigclu_jax; jigclu_jax.__version__")) for _ in range(5)]
    assert statistics.median(after - before for before, after in pairs) < 0.5
    code = "import sys, jigclu_jax\nprint(sorted({'jax', 'tensorflow', 'numpy', 'flax', 'ml_collections'} & set(sys.modules)))"
    assert _run(code) == "[]\n"


def test_training_and_encoder_work_without_tensorflow(tmp_path: Path) -> None:
    """Import of every room but the data's own, a checkpoint read, features computed, all without TensorFlow and clu."""
    make_workdir(tmp_path / "run")
    modules = [*_modules_of(*(room for room in FOLDERS if room != "data")), "jigclu_jax.encoder", "jigclu_jax.__main__"]
    code = f"""
import importlib
for name in {modules!r}:
    importlib.import_module(name)
import numpy as np
import jigclu_jax
encoder = jigclu_jax.load_encoder({str(tmp_path / "run")!r})
images = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8)
features = encoder(images)
assert features.dtype == np.float32 and features.shape == (3, encoder.dim) and np.isfinite(features).all()
# whatever the chunks, a feature is the image's own
assert np.allclose(encoder(images, batch_size=2), features, rtol=1e-4, atol=1e-5)
assert np.ptp(features, axis=0).max() > 0
print(encoder.step, encoder.dim)
"""
    assert _run(code, *TENSORFLOW) == "5 26\n"


def test_nothing_else_is_imported_before_signals_are_answered() -> None:
    """A Ctrl-C while the package's first line imports more would end in a traceback."""
    lines = ast.parse((PACKAGE / "__init__.py").read_text()).body
    answered = next(place for place, line in enumerate(lines) if isinstance(line, ast.If))
    names = [alias.name for line in lines[:answered] if isinstance(line, ast.Import | ast.ImportFrom) for alias in line.names]
    assert names == ["importlib", "first_signals"]
