"""The notebooks are those of their scripts, and run from top to bottom."""

import importlib.util
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build", ROOT / "notebooks" / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_has_its_notebook() -> None:
    scripts = {path.stem for path in (ROOT / "notebooks").glob("*.py")} - {"build"}
    assert {path.stem for path in NOTEBOOKS} == scripts >= {"jigclu_colab"}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_what_its_script_makes(notebook: Path) -> None:
    fresh = _builder().build(notebook.with_suffix(".py").read_text())
    assert notebook.read_text() == fresh, "stale: run `python notebooks/build.py`"


def test_cells_are_cut_at_the_marks() -> None:
    builder = _builder()
    script = "# ruff: noqa\n# %% [markdown]\n# # Title\n#\n# Text\n\n# %%\nx = 1\n# a comment\n\ny = 2\n"
    assert builder.cells(script) == [("markdown", "# Title\n\nText"), ("code", "x = 1\n# a comment\n\ny = 2")]
    notebook = nbformat.reads(builder.build(script), as_version=4)
    assert [(cell.cell_type, cell.id) for cell in notebook.cells] == [("markdown", "cell-0"), ("code", "cell-1")]
    with pytest.raises(ValueError, match="starts no cell"):
        builder.cells("# %% [html]\n")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the kernel's own machinery
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("JIGCLU_NOTEBOOK", "tiny")
    monkeypatch.setenv("JIGCLU_NOTEBOOK_WORKDIR", str(tmp_path / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    document = nbformat.read(notebook, as_version=4)
    NotebookClient(document, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.text for cell in document.cells for output in cell.get("outputs", ()) if output.get("name") == "stdout")
    assert "refused:" in printed and "pretrained 0." in printed and "(128, 26) float32" in printed
    shown = [output for cell in document.cells for output in cell.get("outputs", ()) if output.output_type == "display_data"]
    assert sum("image/svg+xml" in output.data for output in shown) == 3 + 2
    assert (tmp_path / "runs" / "pretrain" / "report.html").exists()
