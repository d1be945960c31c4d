"""`python -m jigclu_jax`: reads the command line and runs the job that the config selects."""

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from jigclu_jax.config import parse
from jigclu_jax.errors import NonFiniteError, PeerError, Preempted, UserError, one_line
from jigclu_jax.train.disk import disk_error
from jigclu_jax.train.stop import STOP

DONE, FAILED, USER_ERROR, STOPPED, INTERRUPTED = 0, 1, 2, 75, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; returns the exit code: 0 done, 1 failed, 2 the user's mistake, 75 stopped after a completed save."""
    # TensorFlow reports an image that does not decode with tracebacks of its own, and greets every run with what oneDNN does; JAX
    # would set the first one to 1 on import. Without oneDNN batches are also the same on every sort of CPU.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    workdir = ""
    try:
        STOP.install()
        config, workdir = parse(sys.argv[1:] if arguments is None else arguments)
        from jigclu_jax.jobs import find_job  # only now: a mistake in the command line is answered at once
        from jigclu_jax.jobs.ending import say_end

        find_job(config.job).run(config, workdir)
        say_end(config, workdir)
    except UserError as error:
        return _say(f"error: {error}", USER_ERROR)
    except Preempted as error:
        return _say(f"stopped: {error}", STOPPED)
    except (NonFiniteError, PeerError) as error:
        return _say(f"failed: {error}", FAILED)
    except KeyboardInterrupt:
        return _say("interrupted: what was saved stays, start the same command again to go on", INTERRUPTED)
    except Exception as error:
        # a disk may fill up while result and report are written, too
        told = (_peers() and _peers().lost_contact(error)) or disk_error(error, workdir)
        if told:
            return _say(f"error: {told}", USER_ERROR) if isinstance(told, UserError) else _say(f"failed: {told}", FAILED)
        traceback.print_exc()
        return _leave(f"{type(error).__name__}: {one_line(str(error))}", FAILED)
    return DONE


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return _leave(text.partition(": ")[2], code)


def _leave(text: str, code: int) -> int:
    if code != STOPPED and _peers():  # which all processes do together
        _peers().leave(code, text)
    return code


def _peers() -> Any:
    """What ties this process to the others of its run, once there may be others; a mistake in the command line needs no JAX."""
    return sys.modules.get("jigclu_jax.device.peers")


if __name__ == "__main__":
    sys.exit(main())
