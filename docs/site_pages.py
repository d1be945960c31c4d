"""Hooks of mkdocs (`mkdocs.yml`): pages that are made of other files, and links of pages that lead out of `docs/`."""

import ast
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
_OUTSIDE = re.compile(
    r"\]\((?:\.\./)?((?:configs|notebooks|jigclu_jax|examples|launch|benchmarks|tests|CITATION|CONTRIBUTING)[^)#]*)(#[^)]*)?\)"
)


def on_files(files: Files, config: Any) -> Files:
    """Add the start page, a page of all configs, the methods' page and the changes."""
    readme = re.sub(r"\]\(docs/", "](", (ROOT / "README.md").read_text())
    changes = (ROOT / "CHANGELOG.md").read_text()
    pages = {"index.md": readme, "changelog.md": re.sub(r"\]\(docs/", "](", changes), "configs.md": _configs(), "methods.md": _methods()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to a config lead to its entry on the page of configs; other files of the repository are named and not linked."""
    return _OUTSIDE.sub(_inside, markdown)


def _inside(match: re.Match[str]) -> str:
    path = match.group(1).rstrip("/")
    if path.startswith("configs/"):
        return f"](configs.md#{path.removeprefix('configs/').replace('.py', 'py').lower()})"
    return f"](index.md 'in the repository: {path}')"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def _configs() -> str:
    text = "# Configs\n\nEvery run is a file in `configs/`; this is what each says of itself.\n"
    for path in sorted((ROOT / "configs").glob("*.py")):
        text += f"\n## {path.name}\n\n{_docstring(path)}\n"
    return text


def _methods() -> str:
    text = (
        "# Methods\n\nA method is one file ([adding one](add_a_method.md), [which one](which_method.md)); what each says of itself.\n\n"
        "![Views of two photographs, cut into patches; the patches of all of them are shuffled into montages](pictures/montages.jpg)\n"
    )
    for path in sorted((ROOT / "jigclu_jax" / "methods").glob("*.py")):
        if path.stem != "__init__":
            text += f"\n## {path.stem}\n\n::: jigclu_jax.methods.{path.stem}\n"
            text += "    options: {show_root_heading: false, show_root_toc_entry: false, heading_level: 3, members: [FIELDS, DEFAULTS]}\n"
    return text
