"""The docs site: every page is in the menu, links lead somewhere, quoted errors are the program's. `make docs` checks more."""

import ast
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GENERATED = {"index.md", "changelog.md", "configs.md", "methods.md"}  # by docs/site_pages.py


def _menu(entries: list[dict[str, object]]) -> list[str]:
    found = []
    for entry in entries:
        for value in entry.values():
            found += _menu(value) if isinstance(value, list) else [str(value)]
    return found


def _anchor(heading: str) -> str:
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_every_page_is_in_the_menu_once() -> None:
    menu = _menu(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(menu) == sorted(GENERATED | {path.name for path in DOCS.glob("*.md")})


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    broken = []
    for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            if "://" in target:
                continue
            file = (page.parent / path) if path else page
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if file.suffix == ".md" and file.exists() else []
            if not (file.exists() or (page.parent == DOCS and path in GENERATED)) or (anchor and anchor not in map(_anchor, headings)):
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_errors_are_quoted_as_the_program_says_them() -> None:
    said = []
    for path in (ROOT / "jigclu_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                said.append("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.append(node.value)
    everything = "\n".join(said)
    table = (DOCS / "errors.md").read_text().partition("\nNot ours")[0]
    quoted = [span for line in table.splitlines() if line.startswith("| ") for span in re.findall("`([^`]+)`", line.split(" | ")[0])]
    assert len(quoted) > 20
    pieces = [piece.strip() for span in quoted for piece in re.split(r"\.\.\.|config\.X", span)]
    assert [piece for piece in pieces if piece not in everything] == []
