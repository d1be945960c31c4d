"""Gathers what a finished job shows a person."""
from jigclu_jax.data.sources import Source
def report_pretraining(config, workdir, source): pass
def report_probe(config, workdir): pass
