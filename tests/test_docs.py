"""README and docs: every command is one that the program takes, and the Python runs. Links are in test_site.py."""

import functools
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jigclu_jax
from jigclu_jax.__main__ import _LOOKS, _parsed
from jigclu_jax.config import check_config
from jigclu_jax.train.workdir import config_as_dict

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# What a block may hold beside what is looked at here: other people's programs, and the shell's own words.
OTHERS = {"sky", "while", "do", "code=$?", "[", "break", "sleep", "done"}
# What a page says in the form of code that is no code: the shape of a file, or of a folder.
SHAPES = ("FIELDS = {", "root/train/")


# What the Python of docs/weights.md stands on: the command above it.
EMBEDDED = 'import jigclu_jax\njigclu_jax.embed("runs/embedded", "/data/mine", "runs/mine")'


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of the blocks of code of a page, fenced or set in by four columns after an empty line."""
    lines, i = page.read_text().splitlines(), 0
    while i < len(lines):
        if lines[i].startswith("```"):
            end = next(j for j in range(i + 1, len(lines)) if lines[j].startswith("```"))
            yield lines[i].strip("`"), "\n".join(lines[i + 1 : end])
            i = end
        elif lines[i].startswith("    ") and (i == 0 or not lines[i - 1].strip()):
            end = next((j for j in range(i, len(lines)) if lines[j].strip() and not lines[j].startswith("    ")), len(lines))
            text = "\n".join(line[4:] for line in lines[i:end])
            yield ("python" if re.match("import |from ", text) else ""), text
            i = end - 1
        i += 1


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a block of shell; a quoted text may go over several lines."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=";&|\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    words: list[str] = []
    comment = False
    for word in [*lexer, "\n"]:
        comment = (comment or word.startswith("#")) and "\n" not in word
        if set(word) <= set(";&|\n"):
            if words:
                yield words
            words = []
        elif not comment:
            words.append(word)


def test_commands_of_a_block() -> None:
    text = "a --b='c d' \\\n    e   # that; is: 'no' word\nf; g && h=1 i\n\nj --k='l\nm'\n"
    assert list(commands(text.replace("'no'", "no"))) == [["a", "--b=c d", "e"], ["f"], ["g"], ["h=1", "i"], ["j", "--k=l\nm"]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of two classes in `images/train` and `images/val`, and a file of weights."""
    root = tmp_path_factory.mktemp("docs")
    for index, image in enumerate(np.random.default_rng(0).integers(0, 255, (48, 40, 40, 3), np.uint8)):
        split, number = ("val", f"v{index}") if index < 16 else ("train", f"{index // 2 - 8}")
        path = root / "images" / split / f"class{index % 2}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (root / "file.pth").write_bytes(b"")
    return root


def check_jigclu(words: list[str], place: Path) -> None:
    """A command line of the package makes a config that can be; a workdir has then begun, so that a later line may go on with it."""
    if words[0] in _LOOKS:
        assert {word.partition("=")[0] for word in words if word[0] == "-"} <= {"--data", "--config", "--seconds", "--set"}, words
        return
    words = [re.sub(r"^--(workdir|out)=(?!gs:)", rf"--\1={place}/", word) for word in words]
    for name, path in (("--data", "images"), ("--weights", "file.pth")):
        if name in words:
            words[words.index(name) + 1] = str(place / path)
    config, workdir = _parsed(words)
    check_config(config)
    if workdir.startswith(str(place)):
        Path(workdir).mkdir(parents=True, exist_ok=True)
        (Path(workdir) / "config.json").write_text(json.dumps(config_as_dict(config)))


def check_make(words: list[str], place: Path) -> None:
    """Targets and variables of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    for word in words:
        name, equals, _ = word.partition("=")
        assert re.search(rf"^{re.escape(name)} *\?= *" if equals else rf"^{re.escape(name)}:", text, re.MULTILINE), word


def check_pip(words: list[str], place: Path) -> None:
    """Only extras that there are."""
    assert words[0] == "install", words
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    extras = {extra for word in words for found in re.findall(r"\[(.*?)\]", word) for extra in found.split(",")}
    assert extras <= set(known), words


def check_script(words: list[str], place: Path) -> None:
    """A script of the checkout that is there and has these options; a launcher is run with --dry-run, its job's line checked as such."""
    own, job = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    script, options = ROOT / own[0], [word.partition("=")[0] for word in own[1:] if word.startswith("--")]
    assert script.is_file(), own[0]
    text = script.read_text()
    missing = [option for option in options if option not in text]
    assert not missing, (own[0], missing)
    if job:
        check_jigclu(job, place)
        if script.suffix == ".sh":
            done = subprocess.run(
                ["bash", script, *own[1:], "--dry-run", "--", *job], capture_output=True, text=True, timeout=60, cwd=place
            )
            assert done.returncode == 0, done.stderr


def check(words: list[str], place: Path) -> None:
    """One command of a page."""
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:3] == ["python", "-m", "jigclu_jax"]:
        if "--config=..." not in words:
            check_jigclu(words[3:], place)
    elif words and words[0].startswith("--config."):
        check_jigclu(["--config=configs/pretrain_folder.py", "--workdir=x", *words], place)
    elif words and words[0].startswith("launch/"):
        check_script(words, place)
    elif words and words[0] == "python":
        check_script(words[1:], place)
    elif words and words[0] in ("jigclu", "make", "pip"):
        {"jigclu": check_jigclu, "make": check_make, "pip": check_pip}[words[0]](words[1:], place)
    else:
        assert not words or words[0] in OTHERS, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_what_the_program_takes(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    wrong = []
    for language, text in blocks(page):
        if language == "python" or text.startswith(SHAPES):
            continue
        for words in commands(text):
            try:
                check(words, place)
            except Exception as error:
                wrong.append(f"{shlex.join(words)}: {error}")
    assert not wrong, "\n".join(wrong)


# Settings by which what the pages call takes seconds.
SMALL = {
    "pretrain": {"data.image_size": 32, "model.arch": "resnet18", "epochs": 1, "batch_size": 16, "model.stem": "imagenet"},
    "evaluate": {"eval_data.resize": 36, "eval_data.crop": 32, "probe.epochs": 1, "eval_batch_size": 16, "random_init": False},
    "embed": {"resize": 36, "crop": 32, "eval_batch_size": 16},
}


@pytest.mark.slow
def test_python_runs(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page in the same folder, so that a second pretraining of the same name finds the first one done."""
    monkeypatch.chdir(tmp_path)
    for name, settings in SMALL.items():
        monkeypatch.setattr(jigclu_jax, name, functools.partial(getattr(jigclu_jax, name), settings=settings))
    names = {"images": np.zeros((2, 32, 32, 3), np.uint8)}
    for page, before in (("README.md", ""), ("docs/tutorial.md", ""), ("docs/weights.md", EMBEDDED)):
        texts = [before, *(text for language, text in blocks(ROOT / page) if language == "python")]
        for text in texts:
            exec(re.sub(r"/path/to/\w+|/data/\w+", str(place / "images"), text), names)
    for path in ("mine/report.html", "features/features.npz", "weights/backbone.onnx", "page/report.html", "exported/timm/config.json"):
        assert (tmp_path / "runs" / path).exists(), path
