"""What pyproject.toml cannot say: the files of `configs/` go into the wheel as `jigclu_jax/configs`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["jigclu_jax", "jigclu_jax.*"]), "jigclu_jax.configs"],
    package_dir={"jigclu_jax.configs": "configs"},
)
