"""A page in a real browser, as wide as a phone: nothing wider than the screen, every picture there, nothing to say on the console."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jigclu_jax.config import pretrain_config
from jigclu_jax.metrics import accuracy_spec, loss_spec
from jigclu_jax.report.pages import write_page
from jigclu_jax.train.workdir import config_as_dict, write_result

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
# A page of no origin may not look into another file: the browser is told that it may.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--allow-file-access-from-files",
    "--virtual-time-budget=8000",
    "--enable-logging=stderr",
)
FRAME = """<!DOCTYPE html><iframe style="width:390px;height:800px;border:0" src="report.html"></iframe><pre id="found"></pre><script>
document.querySelector("iframe").addEventListener("load", function () {
  const page = this.contentDocument, root = page.documentElement, images = [...page.images];
  const missing = images.filter(image => !image.complete || !image.naturalWidth).length;
  document.getElementById("found").textContent = JSON.stringify([root.clientWidth, root.scrollWidth, images.length, missing]);
});
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="there is no chromium, nor chrome")
@pytest.mark.parametrize("complete", [True, False])
def test_a_page_fits_a_phone(tmp_path: Path, complete: bool) -> None:
    config = pretrain_config()
    config.data.path = "/a/very/long/path" * 12
    (tmp_path / "config.json").write_text(json.dumps(config_as_dict(config)))
    specs = [loss_spec("loss", "loss", 9.0), accuracy_spec("accuracy", "accuracy of a metric with a long name", 0.1)]
    (tmp_path / "metric_specs.json").write_text(json.dumps([vars(spec) for spec in specs]))
    rows = [{"step": step, "epoch": step / 10, "loss": 9.0 / step, "accuracy": step / 50} for step in range(1, 40)]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    if complete:
        write_result(tmp_path, {"job": "pretrain", "commit": "f" * 40 + "+changes", "oddities": ["word" * 40]})
    write_page(tmp_path)
    (tmp_path / "frame.html").write_text(FRAME)
    shown = subprocess.run([BROWSER, *FLAGS, "--dump-dom", str(tmp_path / "frame.html")], capture_output=True, text=True, timeout=300)
    found = re.search(r'<pre id="found">(\[.*?\])</pre>', shown.stdout)
    assert found, shown.stderr[-1000:]
    width, scroll, images, missing = json.loads(found[1])
    assert scroll <= width <= 390 and images >= 2 and not missing
    assert "CONSOLE" not in shown.stderr
