"""`python -m jigclu_jax`: reads the command line and runs the job that the config selects."""

import difflib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from jigclu_jax import first_signals
from jigclu_jax.errors import NonFiniteError, PeerError, Preempted, UserError, one_line
from jigclu_jax.first_signals import INTERRUPTED
from jigclu_jax.run_scope import close_outputs, fill_descriptors, interrupt_once, run_scope, set_environment, set_signal
from jigclu_jax.train.stop import STOP, Stopped

# what is imported above is light, the rest comes within `main`
DONE, FAILED, USER_ERROR, STOPPED = 0, 1, 2, 75
# jobs that have nothing to keep before their first step: SIGTERM then ends them at once
_TRAINING = ("pretrain", "probe", "finetune")
# what is looked at and not run: `jigclu runs DIR`, `jigclu doctor`, in jobs/
_LOOKS = ("runs", "doctor")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job; returns the exit code: 0 done, 1 failed, 2 the user's mistake, 75 stopped after a completed save.

    What it changes in the process (handlers of signals, filters, flags, environment) is as before when it returns.
    """
    with run_scope():
        return _main(sys.argv[1:] if arguments is None else arguments)


def _main(arguments: Sequence[str]) -> int:
    # TensorFlow reports an image that does not decode with tracebacks of its own, and greets every run with what oneDNN does; JAX
    # would set the first one to 1 on import. Without oneDNN batches are also the same on every sort of CPU.
    set_environment("TF_CPP_MIN_LOG_LEVEL", "3")
    set_environment("TF_ENABLE_ONEDNN_OPTS", "0")
    workdir = ""
    try:
        STOP.install()
        set_signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that was closed is a log that nobody reads
        if arguments and arguments[0] in _LOOKS:
            look = importlib.import_module(f"jigclu_jax.jobs.{arguments[0]}")
            _imported()
            look.command(arguments[1:])
            return DONE
        config, workdir = _parsed(arguments)
        from jigclu_jax.jobs import find_job  # only now: a mistake in the command line is answered at once
        from jigclu_jax.jobs.ending import say_end

        job = find_job(config.job)
        _imported()
        if config.job in _TRAINING:
            from jigclu_jax.device import distributed

            if distributed.is_alone():
                STOP.leave_at_once()
        job.run(config, workdir)
        say_end(config, workdir)
    except UserError as error:
        return _say(f"error: {error}", USER_ERROR)
    except Preempted as error:
        return _say(f"stopped: {error}", STOPPED)
    except Stopped:
        return _say("stopped: before the first step, nothing was to be saved", STOPPED)
    except (NonFiniteError, PeerError) as error:
        return _say(f"failed: {error}", FAILED)
    except KeyboardInterrupt:
        return _say("interrupted: what was saved stays, start the same command again to go on", INTERRUPTED)
    except Exception as error:
        if broken := _not_imported(error):
            return _say(f"error: {broken}", USER_ERROR)
        from jigclu_jax.train.disk import disk_error
        from jigclu_jax.train.memory import memory_error

        # a disk may fill up while result and report are written, too
        told = (_peers() and _peers().lost_contact(error)) or disk_error(error, workdir) or memory_error(error)
        if told:
            return _say(f"error: {told}", USER_ERROR) if isinstance(told, UserError) else _say(f"failed: {told}", FAILED)
        traceback.print_exc()
        return _leave(f"{type(error).__name__}: {one_line(str(error))}", FAILED)
    return DONE


def _parsed(arguments: Sequence[str]) -> tuple[Any, str]:
    """Config and workdir: of a verb (`jigclu pretrain --data=...`), or of `--config` and `--workdir`."""
    if arguments and not arguments[0].startswith("-"):
        from jigclu_jax.calls import VERBS, parse_verb

        if arguments[0] in VERBS:
            return parse_verb(arguments)
        if near := difflib.get_close_matches(arguments[0], (*VERBS, *_LOOKS), 1):
            raise UserError(f"{arguments[0]!r} is no verb: did you mean {near[0]!r}?")
    from jigclu_jax.config import parse

    return parse(arguments)


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr, flush=True)
    return _leave(text.partition(": ")[2], code)


def _leave(text: str, code: int) -> int:
    if code != STOPPED and _peers():  # which all processes do together
        _peers().leave(code, text)
    return code


def _not_imported(error: Exception) -> str:
    """What is wrong where JAX's import has failed, which reads environment variables; else empty."""
    if "jax" in sys.modules or not any(name.startswith("jax.") for name in sys.modules):
        return ""
    return f"JAX cannot be imported: {one_line(error)}: mend the environment variable JAX_... that it names, or install JAX anew"


def _peers() -> Any:
    """What ties this process to the others of its run, once there may be others; a mistake in the command line needs no JAX."""
    return sys.modules.get("jigclu_jax.device.peers")


def _imported() -> None:
    STOP.starting = False
    if first_signals.leave_off():
        signal.signal(signal.SIGINT, interrupt_once)


def command() -> NoReturn:
    """`main` as a process of its own."""
    fill_descriptors()
    STOP.starting = not first_signals.in_group()
    run_scope().__enter__()  # and never left: what orbax drops when the interpreter ends is filtered still
    try:
        code = main()
    except KeyboardInterrupt:  # once more, while the first one was being answered
        code = INTERRUPTED
    signal.signal(signal.SIGINT, lambda *_: os._exit(code))  # whoever does not want to wait for the end of the interpreter
    close_outputs()
    if code == INTERRUPTED:
        os._exit(code)  # not waiting for what threads have begun: whoever asks twice is in a hurry
    sys.exit(code)


if __name__ == "__main__":
    command()
