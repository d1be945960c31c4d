"""The notebooks are those of their scripts, and run from top to bottom."""

import importlib.util
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from tiny_checkpoint import make_workdir

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What each prints, how many pictures it shows as SVG and as PNG, and what is there afterwards
EXPECTED = {
    "jigclu_colab": (("refused:", "pretrained 0.", "(128, 26) float32"), 5, 0, "runs/pretrain/report.html"),
    "jigclu_features": (
        ("vectors of 26 numbers", "(64, 26) float32", "largest difference to the encoder: 0.0"),
        1,
        0,
        "runs/export/stablehlo.bin",
    ),
    "jigclu_method": (("by hand", "accuracy_retrieval"), 2, 2, "weights"),
}


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build", ROOT / "notebooks" / "build.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_script_has_its_notebook() -> None:
    scripts = {path.stem for path in (ROOT / "notebooks").glob("*.py")} - {"build"}
    assert {path.stem for path in NOTEBOOKS} == scripts == set(EXPECTED)


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
    monkeypatch.setenv("JIGCLU_NOTEBOOK_WEIGHTS", str(make_workdir(tmp_path / "weights")))
    monkeypatch.setenv("JIGCLU_NOTEBOOK_WORKDIR", str(tmp_path / "runs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    document = nbformat.read(notebook, as_version=4)
    NotebookClient(document, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    words, drawings, plots, left = EXPECTED[notebook.stem]
    outputs = [output for cell in document.cells for output in cell.get("outputs", ())]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    assert "this machine has a" in printed
    for word in words:
        assert word in printed
    shown = [output for output in outputs if output.output_type == "display_data"]
    assert sum("image/svg+xml" in output.data for output in shown) == drawings
    assert sum("image/png" in output.data for output in shown) == plots
    assert (tmp_path / left).exists()
