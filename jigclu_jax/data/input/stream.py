"""Iterator over the batches of a pipeline, which raises the errors of the pipeline's Python calls."""

import re
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np

from jigclu_jax.data.lazy_tf import tensorflow
from jigclu_jax.data.sources.reader import ImageReader

_MARK = re.compile(r"jigclu-error-(\d+)-")
_MOST_LEFT = 100_000  # elements; more than any read-ahead holds, so that a broken dataset cannot keep a process
_F = TypeVar("_F", bound=Callable[..., Any])


class ErrorBox:
    """Keeps the exceptions of calls made by TensorFlow, which itself would pass on no more than their text."""

    def __init__(self) -> None:
        self._raised: list[Exception] = []
        self._lock = threading.Lock()
        self.closed = False  # from then on calls return at once, and a dataset that asks `is_open` ends

    def guard(self, function: _F) -> _F:
        """The function, keeping what it raises; TensorFlow gets a numbered stand-in.

        Once closed, calls get what the last one gave: nobody will see it, and an error would be printed at length for each of them.
        """
        last: list[Any] = []

        def guarded(*arguments: Any) -> Any:
            if self.closed:
                if last:
                    return last[0]
                raise RuntimeError("closed")
            try:
                result = function(*arguments)
                last[:] = [result]
                return result
            except Exception as error:
                with self._lock:
                    self._raised.append(error)
                    number = len(self._raised) - 1
                raise RuntimeError(f"jigclu-error-{number}-") from None

        return cast(_F, guarded)

    def is_open(self) -> np.bool_:
        """False once the stream is closed: what ends its dataset."""
        return np.bool_(not self.closed)

    def find(self, text: str) -> Exception | None:
        """The exception whose number TensorFlow's message carries."""
        match = _MARK.search(text)
        return self._raised[int(match.group(1))] if match else None


class BatchStream(Iterator[dict[str, Any]]):
    """Iterator over batches, dicts of numpy arrays (read-only views); raises UserError and ImageError as themselves."""

    def __init__(self, dataset: Any, reader: ImageReader, errors: ErrorBox, threads: int) -> None:
        tf = tensorflow()
        options = tf.data.Options()
        options.deterministic = True
        if threads:
            options.threading.private_threadpool_size = threads
        self._errors, self._reader = errors, reader
        self._operation_errors = tf.errors.OpError
        self._iterator: Iterator[dict[str, Any]] | None = iter(dataset.prefetch(2).with_options(options).as_numpy_iterator())
        # also for a stream that nobody closes, when it is collected or the interpreter ends
        self._finalizer = weakref.finalize(self, _drain, self._iterator, errors, self._operation_errors)

    def __iter__(self) -> "BatchStream":
        return self

    def __next__(self) -> dict[str, Any]:
        if self._iterator is None:
            raise StopIteration
        try:
            return next(self._iterator)
        except self._operation_errors as error:
            self.close()
            cause = self._errors.find(str(error))
            if cause is None:
                raise
            raise cause from None

    @property
    def skipped(self) -> dict[int, str]:
        """Examples met so far that could not be used, index -> message (on_error=skip)."""
        return dict(self._reader.skipped)

    def close(self) -> None:
        """Stop reading ahead and free the buffers."""
        self._finalizer()
        self._iterator = None


def _drain(iterator: Iterator[dict[str, Any]], errors: ErrorBox, operation_errors: type[Exception]) -> None:
    """End a dataset and take what is left of it, so that no Python call of it is under way when it is freed.

    TensorFlow frees an iterator while it holds the interpreter lock, and waits for the calls under way, which need that lock:
    freed in mid-run, it would wait for ever.
    """
    errors.closed = True
    with tensorflow().init_scope():  # the collector may call this while another dataset is traced; `next` would become part of that
        for _ in range(_MOST_LEFT):
            try:
                next(iterator)
            except StopIteration:
                return
            except operation_errors:
                continue  # a call that was cut short
