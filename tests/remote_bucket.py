"""A stand-in for an object store: `gs://bucket/...` lies in a local folder, for etils.epath and, over HTTP, for tensorstore.

epath gets a backend of its own; orbax writes arrays through tensorstore, which speaks the JSON interface of Google
Cloud Storage to the small server below (TENSORSTORE_GCS_HTTP_URL).
"""

import http.server
import importlib.machinery
import json
import os
import pathlib
import shutil
import sys
import threading
import types
import typing
import urllib.parse

import pytest
from etils.epath import backend, gpath, stat_utils
from orbax.checkpoint._src.path import gcs_utils

PREFIX = "gs://bucket"
Name = str | os.PathLike[str]


class BucketBackend(backend._OsPathBackend):
    """epath's operations on `gs://bucket/...`, done below `root`; an object store cannot append, nor can this."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root
        self.written: set[str] = set()

    def local(self, path: Name) -> str:
        text = os.fspath(path)
        assert text == PREFIX or text.startswith(f"{PREFIX}/"), f"a path lost its bucket: {text}"
        return str(self.root / text.removeprefix(PREFIX).lstrip("/"))

    def open(self, path: Name, mode: str) -> typing.IO[typing.Any]:
        assert "a" not in mode and "+" not in mode, "an object store puts whole objects"
        if "w" in mode:
            self.written.add(os.fspath(path).removeprefix(f"{PREFIX}/"))
            os.makedirs(os.path.dirname(self.local(path)), exist_ok=True)  # objects need no folders
        return super().open(self.local(path), mode)

    def exists(self, path: Name) -> bool:
        return super().exists(self.local(path))

    def isdir(self, path: Name) -> bool:
        return super().isdir(self.local(path))

    def listdir(self, path: Name) -> list[str]:
        return super().listdir(self.local(path))

    def glob(self, path: Name) -> list[str]:
        return [f"{PREFIX}/{pathlib.Path(one).relative_to(self.root).as_posix()}" for one in super().glob(self.local(path))]

    def walk(self, path: Name, **options: typing.Any) -> typing.Iterator[typing.Any]:
        for top, folders, files in super().walk(self.local(path), **options):
            yield f"{PREFIX}/{pathlib.Path(top).relative_to(self.root).as_posix()}", folders, files

    def makedirs(self, path: Name, *, exist_ok: bool = False, **options: typing.Any) -> None:
        super().makedirs(self.local(path), exist_ok=exist_ok, **options)

    def mkdir(self, path: Name, *, exist_ok: bool = False, **options: typing.Any) -> None:
        super().mkdir(self.local(path), exist_ok=exist_ok, **options)

    def remove(self, path: Name) -> None:
        super().remove(self.local(path))

    def rmtree(self, path: Name) -> None:
        super().rmtree(self.local(path))

    def rename(self, path: Name, target: Name) -> None:
        os.rename(self.local(path), self.local(target))

    def replace(self, path: Name, target: Name) -> None:
        self.written.add(os.fspath(target).removeprefix(f"{PREFIX}/"))
        os.replace(self.local(path), self.local(target))

    def copy(self, path: Name, target: Name, overwrite: bool) -> None:
        assert overwrite or not self.exists(target)
        shutil.copy(self.local(path), self.local(target))

    def stat(self, path: Name) -> stat_utils.StatResult:
        return super().stat(self.local(path))


class _Handler(http.server.BaseHTTPRequestHandler):
    """The few requests of the JSON interface that tensorstore makes: get, put, list, delete objects of `bucket`."""

    protocol_version = "HTTP/1.1"
    root: pathlib.Path
    log: typing.ClassVar[list[str]] = []

    def log_message(self, *arguments: typing.Any) -> None:
        pass

    def _answer(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, tree: typing.Any) -> None:
        self._answer(200, json.dumps(tree).encode(), Content_Type="application/json")

    def _query(self) -> tuple[str, dict[str, str]]:
        parts = urllib.parse.urlsplit(self.path)
        return parts.path, {name: values[0] for name, values in urllib.parse.parse_qs(parts.query, keep_blank_values=True).items()}

    def _generation(self, file: pathlib.Path) -> str:
        return str(file.stat().st_mtime_ns)

    def _describe(self, file: pathlib.Path) -> dict[str, str]:
        name = file.relative_to(self.root).as_posix()
        generation = self._generation(file)
        return {"kind": "storage#object", "name": name, "bucket": "bucket", "generation": generation, "size": str(file.stat().st_size)}

    def _file(self, path: str) -> pathlib.Path:
        return self.root / urllib.parse.unquote(path.partition("/o/")[2])

    def do_GET(self) -> None:
        path, query = self._query()
        if path.endswith("/b/bucket/o"):
            prefix = query.get("prefix", "")
            files = sorted(file for file in self.root.rglob("*") if file.is_file())
            items = [self._describe(file) for file in files if file.relative_to(self.root).as_posix().startswith(prefix)]
            return self._json({"kind": "storage#objects", "items": items})
        if path.endswith("/b/bucket"):
            return self._json({"kind": "storage#bucket", "name": "bucket"})
        file = self._file(path)
        if not file.is_file():
            return self._answer(404, b"")
        generation = self._generation(file)
        if query.get("ifGenerationNotMatch") == generation:
            return self._answer(304, b"")
        if query.get("alt") != "media":
            return self._json(self._describe(file))
        data = file.read_bytes()
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin = int(first) if first else max(len(data) - int(last), 0)
            end = min(int(last) + 1, len(data)) if last and first else len(data)
            if begin >= len(data):
                return self._answer(416, b"")
            span = f"bytes {begin}-{end - 1}/{len(data)}"
            return self._answer(206, data[begin:end], x_goog_generation=generation, Content_Range=span)
        return self._answer(200, data, x_goog_generation=generation)

    def do_POST(self) -> None:
        _, query = self._query()
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        file = self.root / query["name"]
        known = self._generation(file) if file.is_file() else "0"
        if query.get("ifGenerationMatch", known) != known:
            return self._answer(412, b"")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        self.log.append(query["name"])
        return self._json(self._describe(file))

    def do_DELETE(self) -> None:
        file = self._file(self._query()[0])
        if not file.is_file():
            return self._answer(404, b"")
        file.unlink()
        return self._answer(204, b"")


class Bucket:
    """The running stand-in: where its objects lie, and what was written through which way."""

    def __init__(self, root: pathlib.Path, files: BucketBackend, uploads: list[str]) -> None:
        self.root, self._files, self.uploads = root, files, uploads

    @property
    def written(self) -> set[str]:
        """Objects written through epath."""
        return self._files.written


def serve(monkeypatch: pytest.MonkeyPatch, root: pathlib.Path) -> tuple[Bucket, typing.Callable[[], None]]:
    """The bucket for the rest of the test, and the function that stops its server."""
    root.mkdir(parents=True, exist_ok=True)
    handler = type("Handler", (_Handler,), {"root": root, "log": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("TENSORSTORE_GCS_HTTP_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("GCE_METADATA_ROOT", "127.0.0.1:9")  # nobody answers: no credentials, as it should be
    # orbax asks Google's client whether the bucket has a hierarchical namespace, and for nothing else
    client = types.ModuleType("google.cloud.storage")
    client.__spec__ = importlib.machinery.ModuleSpec(client.__name__, None)
    monkeypatch.setitem(sys.modules, client.__name__, client)
    monkeypatch.setattr(gcs_utils, "get_bucket", lambda name: object())
    files = BucketBackend(root)
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", files)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(10)

    return Bucket(root, files, handler.log), stop


__all__ = ["PREFIX", "Bucket", "serve"]
