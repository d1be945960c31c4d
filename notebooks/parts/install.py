# %% [markdown]
# ## Install
# This cell finds out whether the machine has a GPU, a TPU or neither, and installs `jigclu_jax` for it, unless it is there already.
# On Colab choose the machine in *Runtime, Change runtime type*, and put in the address of the git repository.

# %%
import importlib.util
import os
import subprocess
import sys

REPOSITORY = ""  # @param {type:"string"}

tpu = os.path.exists("/dev/accel0") or os.path.exists("/dev/vfio/0") or "TPU_WORKER_HOSTNAMES" in os.environ
RUNTIME = "GPU" if os.path.exists("/dev/nvidia0") else "TPU" if tpu else "CPU"
if importlib.util.find_spec("jigclu_jax") is None:
    if not REPOSITORY:
        raise SystemExit("jigclu_jax is not installed: set REPOSITORY to the address of its git repository")
    subprocess.run(["git", "clone", "--depth=1", REPOSITORY, "jigclu_jax_source"], check=True)
    extra = {"TPU": "[tpu]", "GPU": "[cuda]", "CPU": ""}[RUNTIME]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "-e", f"jigclu_jax_source{extra}"], check=True)
    sys.path.insert(0, os.path.abspath("jigclu_jax_source"))  # an editable installation is found from the next start on
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow, where it reads the images, has much to say
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
TINY = os.environ.get("JIGCLU_NOTEBOOK") == "tiny"  # how the tests run these cells
print("this machine has a", RUNTIME)
