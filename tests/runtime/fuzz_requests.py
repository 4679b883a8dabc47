"""Requests that no sane client sends, from a seed: bodies of every kind whole and mutated, heads, methods, paths."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import dataclass
from random import Random
from typing import Any

CANARY = "canary86753"  # is in bodies, headers and paths, and must never be in a log or in an error's text
HEAD_LIMIT = 32 << 10
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH", "SOURCE")
_INTERESTING = (
    b"\0",
    b"\xff",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b" ",
    b"%",
    b"[",
    b'"',
    b":",
    b"0",
    b"-1",
    b"\x7f",
    b"\t",
)
_NUMBERS = (0, -0.0, 1, -1, 5.1, 1e308, -1e308, 5e-324, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 0.1)
_JSON_TYPES = ("application/json", "application/json; charset=utf-8", "application/vnd.x+json", "")
_TYPES = (
    *("text/csv", "text/csv; header=present", "application/x-npy", "application/vnd.apache.arrow.stream"),
    *("application/vnd.apache.arrow.file", "text/plain", "application/octet-stream", "image/png", "audio/wav"),
    *("application/x-www-form-urlencoded", "application/xml", "x", "/", ";", "a/b;c", 'a/b; c="', "text/csv;" * 50),
)
_ACCEPTS = (
    *("*/*", "application/json", "text/csv", "application/x-npy", "text/event-stream", "application/x-ndjson"),
    *("application/vnd.apache.arrow.stream", "text/html;q=0.5, */*;q=0.1", "q=1", "a/b;q=2", ",,,", "text/*", "é"),
)
_HEADERS = (
    *("X-Request-Id", "Traceparent", "Accept", "Accept-Encoding", "Content-Encoding", "Connection", "Expect"),
    *("Inference-Header-Content-Length", "Origin", "Access-Control-Request-Method", "Authorization", "Cookie"),
    *("If-None-Match", "Range", "Upgrade", "Via", "X-Forwarded-For", "Forwarded", "Te", "Trailer", "Keep-Alive"),
)
_VALUES = (
    *("", "0", "-1", "1", "9" * 30, "close", "keep-alive", "gzip", "identity", "100-continue", "websocket", "h2c"),
    *("*", "null", "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "x" * 3000, "\x80\xff", "a, b, c", "bytes=0-1", '"'),
)


@dataclass(frozen=True)
class Sample:
    """One request as bytes. A `whole` one must have an answer; `method` says whether that has a body."""

    content: bytes
    method: str
    whole: bool = True


class Requests:
    """Endless requests of one seed for a server whose model is called `name`."""

    def __init__(self, seed: int, name: str) -> None:
        self._random = Random(seed)
        infer = f"/v2/models/{name}/infer"
        self._paths = (
            *("/predict", "/health", "/readyz", "/startupz", "/livez", "/metrics", "/", "/docs", "/openapi.json"),
            *("/v2", "/v2/health/live", "/v2/health/ready", f"/v2/models/{name}", f"/v2/models/{name}/ready", infer),
            *(f"/v2/models/{name}/versions/1/infer", f"/v2/models/{name}/versions/2/infer", "/v2/models/other"),
            *("/assets/try.js", "/assets/../settings.py", "/..%2f..%2fetc/passwd", "/predict/", "//predict", "*"),
            *("/%00", "/%ff", "/%zz", f"/{CANARY}", "/é".encode().decode("latin-1"), "http://a/predict", "http://"),
        )
        self._infer = infer
        self._arrays = _array_files()

    def one(self) -> Sample:
        """A request whose framing holds, whatever else is in it."""
        random = self._random
        path, kind, body, more = self._asked()
        method = "POST" if random.random() < 0.9 else random.choice(_METHODS)
        if random.random() < 0.15:
            path = random.choice(self._paths)
            method = random.choice(("GET", "GET", "POST", random.choice(_METHODS)))
        if random.random() < 0.4:
            path += random.choice(
                (
                    "?predict_proba=true",
                    "?stream=true",
                    "?stream=1&predict_proba",
                    "?" + "a=b&" * 40 + "stream=true",
                    "?predict_proba=x",
                    "?stream=%ff",
                    f"?{CANARY}",
                    "?",
                    "?&&==",
                    "?stream=true&stream=false",
                )
            )
        lines = [f"{method} {path} HTTP/1.1", "Host: fuzz"]
        if kind:
            lines.append(f"Content-Type: {kind}")
        for _ in range(random.choice((0, 0, 0, 1, 1, 2, 5))):
            lines.append(self._header())
        lines += more
        head = "\r\n".join(lines).encode("latin-1", "replace")
        if random.random() < 0.2:
            return Sample(head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + self._chunked(body), method)
        return Sample(head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body, method)

    def broken(self) -> Sample:
        """Bytes that may be no request at all, or half of one."""
        random = self._random
        content = self.one().content
        kind = random.randrange(6)
        if kind == 0:
            content = content[: random.randrange(1, len(content))]
        elif kind == 1:
            content = random.randbytes(random.choice((1, 10, 100, 5000)))
        elif kind == 2:  # a head that says something else of the body than there is
            lie = random.choice(
                (
                    b"Content-Length: 5",
                    b"Content-Length: -1",
                    b"Content-Length: 99999999999999999999",
                    b"Host: b",
                    b"Transfer-Encoding: gzip",
                    b"Transfer-Encoding: chunked, chunked",
                    b"Content-Length: 1e3",
                    b" a: b",
                    b"Transfer-Encoding : chunked",
                    b"A" * 200,
                    b"A: " + b"b" * 40000,
                    b": x",
                    b"A\x00: b",
                    b"A: \x01",
                )
            )
            content = content.replace(b"Host: fuzz", b"Host: fuzz\r\n" + lie, 1)
        elif kind == 3:
            line, _, rest = content.partition(b"\r\n")
            words = [
                b"GET",
                b"/",
                b"HTTP/9.9",
                b"HTTP/0.9",
                b"HTTP/1.0",
                b"",
                b" ",
                b"\0",
                b"/" * 9000,
                b"PRI * HTTP/2.0",
            ]
            content = b" ".join(random.choices(words, k=random.randrange(1, 5))) + b"\r\n" + rest
            del line
        else:
            content = self._mutated(content)
        return Sample(content, "", whole=False)

    # heads

    def _header(self) -> str:
        random = self._random
        name = random.choice(_HEADERS)
        value = random.choice(_ACCEPTS if name == "Accept" else _VALUES)
        if name in ("X-Request-Id", "Traceparent"):
            return f"{name}: {value}"  # these two are meant to be in the log
        return f"{name}: {value}" if random.random() < 0.9 else f"X-{random.randrange(99)}: {CANARY}"

    def _chunked(self, body: bytes) -> bytes:
        parts, start = [], 0
        while start < len(body):
            size = self._random.choice((1, 7, 100, 5000))
            part = body[start : start + size]
            parts.append(b"%x\r\n%s\r\n" % (len(part), part))
            start += size
        return b"".join(parts) + b"0\r\n\r\n"

    # bodies

    def _asked(self) -> tuple[str, str, bytes, list[str]]:
        """Path, type, body, further headers."""
        random = self._random
        make = random.choice((self._rows, self._rows, self._json, self._csv, self._array, self._form, self._v2))
        path, kind, body, more = make()
        draw = random.random()
        if draw < 0.35:
            body = self._mutated(body)
        elif draw < 0.4:
            kind = random.choice(_TYPES)
        elif draw < 0.42:
            body = random.randbytes(random.choice((0, 1, 30, 2000)))
        return path, kind, body, more

    def _rows(self) -> tuple[str, str, bytes, list[str]]:
        random = self._random
        rows = [[random.uniform(0, 8) for _ in range(4)] for _ in range(random.choice((1, 1, 2, 50)))]
        names = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
        value = random.choice(
            (
                rows,
                rows[0],
                {"instances": rows},
                {"inputs": rows},
                [dict(zip(names, row, strict=True)) for row in rows],
                {"instances": rows, "predict_proba": True},
                {"instances": rows, "parameters": self._value(2)},
            )
        )
        return "/predict", random.choice(_JSON_TYPES), json.dumps(value).encode(), self._accept()

    def _json(self) -> tuple[str, str, bytes, list[str]]:
        random = self._random
        kind = random.randrange(8)
        if kind == 0:
            depth = random.choice((10, 500, 3000, 30_000))
            body = b"[" * depth + b"1" + b"]" * depth
        elif kind == 1:
            body = b'{"instances":' * 200 + b"1" + b"}" * 200
        elif kind == 2:
            body = random.choice(
                (b"NaN", b"[Infinity]", b"[1e999]", b"[[1,2],[3]]", b"[9" + b"9" * 5000 + b"]", b'"\xff"')
            )
        elif kind == 3:
            body = json.dumps({random.choice(("instances", "inputs", "columns")): self._value(4)}).encode()
        else:
            body = json.dumps(self._value(5)).encode()
        return "/predict", random.choice(_JSON_TYPES), body, self._accept()

    def _value(self, depth: int) -> Any:
        random = self._random
        draw = random.randrange(8 if depth else 4)
        if draw < 2:
            return random.choice(_NUMBERS)
        if draw == 2:
            return random.choice((CANARY, "", "é\0", "\ud800", "x" * 300, "5.1"))
        if draw == 3:
            return random.choice((None, True, False))
        if draw == 4:
            keys = ("instances", "inputs", "parameters", "predict_proba", "", CANARY, "b64", "shape")
            return {random.choice(keys): self._value(depth - 1) for _ in range(random.randrange(4))}
        return [self._value(depth - 1) for _ in range(random.randrange(6))]

    def _csv(self) -> tuple[str, str, bytes, list[str]]:
        random = self._random
        cells = ("5.1", "3.5", "", "1e5", '"a,b"', CANARY, '"', "NaN", "é", "-", "0x10", "1_000", "\0")
        good = random.random() < 0.5
        lines = []
        for _ in range(random.choice((1, 2, 30))):
            lines.append(
                ",".join("5.1 3.5 1.4 0.2".split() if good else random.choices(cells, k=random.randrange(1, 7)))
            )
        header = "sepal length (cm),sepal width (cm),petal length (cm),petal width (cm)"
        if random.random() < 0.5:
            lines.insert(0, header)
        end = random.choice(("\n", "\r\n", "\r"))
        kind = random.choice(("text/csv", "text/csv; header=present", "text/csv; header=absent"))
        return "/predict", kind, (end.join(lines) + end).encode(), self._accept()

    def _array(self) -> tuple[str, str, bytes, list[str]]:
        kind, body = self._random.choice(self._arrays)
        return "/predict", kind, body, self._accept()

    def _form(self) -> tuple[str, str, bytes, list[str]]:
        random = self._random
        boundary = random.choice(("b", "x" * 70, "x" * 71, "-", "a b", ""))
        parts = b""
        for _ in range(random.choice((0, 1, 2, 20))):
            name = random.choice(("file", "parameters", "predict_proba", CANARY))
            file = random.choice(("", '; filename="a.png"', f'; filename="../{CANARY}"'))
            parts += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
            parts += random.randbytes(random.randrange(50)) + b"\r\n"
        kind = f'multipart/form-data; boundary="{boundary}"'
        return "/predict", kind, parts + f"--{boundary}--\r\n".encode(), []

    def _v2(self) -> tuple[str, str, bytes, list[str]]:
        random = self._random
        count = random.choice((1, 1, 3))
        shape: Any = random.choice(([count, 4], [count, 4], [4], [-1, 4], [2**40, 2**40], [], "x", [count, 4, 1]))
        datatype = random.choice(("FP64", "FP64", "FP32", "INT64", "UINT8", "BOOL", "BYTES", "FP16", "BF16", "x"))
        tensor: dict[str, Any] = {"name": "x", "shape": shape, "datatype": datatype}
        content = {"id": CANARY, "inputs": [tensor] * random.choice((1, 1, 1, 0, 2))}
        if random.random() < 0.3:
            content["outputs"] = [
                {"name": random.choice(("predictions", "y", CANARY)), "parameters": {"binary_data": True}}
            ]
        more: list[str] = []
        if random.random() < 0.5:
            tensor["data"] = random.choice(([5.1, 3.5, 1.4, 0.2] * count, self._value(3), [CANARY], [True] * 4))
            return self._infer, "application/json", json.dumps(content).encode(), more
        raw = struct.pack(f"<{4 * count}d", *([5.1, 3.5, 1.4, 0.2] * count))
        tensor["parameters"] = {"binary_data_size": random.choice((len(raw), len(raw), 0, -1, 2**62, "x", 7))}
        text = json.dumps(content).encode()
        length = random.choice((len(text), len(text), len(text), 0, len(text) + 1, 10**11, len(text) // 2))
        return self._infer, "application/octet-stream", text + raw, [f"Inference-Header-Content-Length: {length}"]

    def _accept(self) -> list[str]:
        return [f"Accept: {self._random.choice(_ACCEPTS)}"] if self._random.random() < 0.3 else []

    def _mutated(self, content: bytes) -> bytes:
        random = self._random
        made = bytearray(content)
        for _ in range(random.choice((1, 1, 2, 4, 16))):
            at = random.randrange(len(made) + 1)
            kind = random.randrange(6)
            if kind == 0 and at < len(made):
                made[at] ^= 1 << random.randrange(8)
            elif kind == 1:
                made[at:at] = random.choice(_INTERESTING)
            elif kind == 2:
                del made[at : at + random.choice((1, 4, 40))]
            elif kind == 3:
                made[at : at + 4] = random.choice(
                    (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\1\0\0\0")
                )
            elif kind == 4:
                made[at:at] = made[at : at + random.choice((1, 8, 100))]
            else:
                del made[at:]
        return bytes(made)


def _array_files() -> list[tuple[str, bytes]]:
    """Well-made .npy and Arrow bodies, to be mutated."""
    import numpy
    import pyarrow

    found = []
    for dtype in ("<f8", ">f8", "<f4", "<i8", "?", "<U3", "<c16", "<M8[s]", "V8"):
        file = io.BytesIO()
        numpy.save(file, numpy.zeros((3, 4), dtype))
        found.append(("application/x-npy", file.getvalue()))
    file = io.BytesIO()
    numpy.save(file, numpy.array([CANARY, None], object), allow_pickle=True)
    found.append(("application/x-npy", file.getvalue()))
    names = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    tables = [
        pyarrow.table({name: [5.1, 3.5] for name in names}),
        pyarrow.table({"a": [CANARY, None], "b": [[1, 2], []], "c": pyarrow.array(["x", "x"]).dictionary_encode()}),
    ]
    for table in tables:
        for kind, opening in (("stream", pyarrow.ipc.new_stream), ("file", pyarrow.ipc.new_file)):
            sink = io.BytesIO()
            with opening(sink, table.schema) as writer:
                writer.write_table(table)
            found.append((f"application/vnd.apache.arrow.{kind}", sink.getvalue()))
    return found
