"""`python tests/methods/throwaway ARGUMENTS`: the program with the method of this folder beside its own."""

import sys
from pathlib import Path

import jigclu_jax.methods
from jigclu_jax.__main__ import main

jigclu_jax.methods.__path__.append(str(Path(__file__).parent))

if __name__ == "__main__":
    sys.exit(main())
