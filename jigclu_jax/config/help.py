"""What `--help` prints: jobs, configs with their arguments, and examples."""

import ast
from pathlib import Path

from jigclu_jax.config.jobs import CONFIGS, JOBS

USAGE = "python -m jigclu_jax --config=configs/NAME.py[:arg=value,...] --workdir=DIR [--config.some.field=value ...]"
_HELP = f"""usage: {USAGE}

  --config=FILE[:ARGS]    a config: the name of one below, any file with get_config(arg), or the config.json of a workdir
  --workdir=DIR           where everything goes, a folder or gs://BUCKET/DIR; alone, it goes on with the run that is in it
  --config.FIELD=VALUE    sets one field; the fields and their ranges stand in jigclu_jax/config/ and methods/
  --version, --help

or in one call: jigclu VERB, where `jigclu` is `python -m jigclu_jax`; jigclu VERB --help lists its arguments
verbs: pretrain, finetune, evaluate, embed, export, compare, demo
  runs DIR    lists the runs in a folder
  doctor      looks at this machine and measures it: jigclu doctor --data=/path/to/images

jobs: {{jobs}}

configs and their arguments:
{{configs}}

examples:
  jigclu demo
  jigclu --config=pretrain_folder:image_size=112 --workdir=runs/mine --config.data.path=/path/to/images
  jigclu --workdir=runs/mine
  jigclu --config=fast_probe:preset=folder --workdir=runs/mine_probe --config.checkpoint=runs/mine \\
      --config.data.path=/path/to/images"""


def help_text() -> str:
    """The text; files in `configs/` are read and not run."""
    folder = Path("configs") if Path("configs").is_dir() else CONFIGS
    lines = []
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text())
        functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "get_config"]
        arguments = " ".join((ast.get_docstring(functions[0]) or "").split()) if functions else ""
        lines.append(f"  {path.stem:<18} {(ast.get_docstring(tree) or '').partition(chr(10))[0]}\n{'':21}{arguments}")
    return _HELP.format(jobs=", ".join(JOBS), configs="\n".join(lines))
