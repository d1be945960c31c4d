"""Makes each notebook from the script of the same name: `python notebooks/build.py`.

A script is Python with `# %%` before each code cell and `# %% [markdown]` before each text cell, whose lines are comments. `# %% [install]`
stands for the cells of `parts/install.py`, which all notebooks begin with.
Scripts are what is edited and reviewed; a test fails while a notebook differs from its script.
"""

from pathlib import Path

import nbformat

FOLDER = Path(__file__).resolve().parent
_MARK = "# %%"


def cells(script: str) -> list[tuple[str, str]]:
    """("code" or "markdown", text) of each cell; what stands before the first mark (linters' comments) is left out."""
    found: list[tuple[str, list[str]]] = []
    script = script.replace(f"{_MARK} [install]", (FOLDER / "parts" / "install.py").read_text(encoding="utf-8").rstrip())
    for line in script.splitlines():
        if line.startswith(_MARK):
            kind = line.removeprefix(_MARK).strip()
            if kind not in ("", "[markdown]"):
                raise ValueError(f"{line!r} starts no cell: use '# %%' or '# %% [markdown]'")
            found.append(("markdown" if kind else "code", []))
        elif found:
            found[-1][1].append(line)
    return [(kind, _text(kind, lines)) for kind, lines in found]


def build(script: str) -> str:
    """The notebook of a script, without outputs, as the content of an .ipynb file."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata = {
        "colab": {"provenance": []},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    # numbered, where nbformat would draw names at random
    notebook.cells = [make[kind](text, id=f"cell-{number}") for number, (kind, text) in enumerate(cells(script))]
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def _text(kind: str, lines: list[str]) -> str:
    if kind == "markdown":
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    return "\n".join(lines).strip("\n")


def main() -> None:
    """Rebuild every notebook of this folder."""
    for script in sorted(FOLDER.glob("*.py")):
        if script.name != Path(__file__).name:
            script.with_suffix(".ipynb").write_text(build(script.read_text(encoding="utf-8")), encoding="utf-8")
            print(script.with_suffix(".ipynb").name)


if __name__ == "__main__":
    main()
