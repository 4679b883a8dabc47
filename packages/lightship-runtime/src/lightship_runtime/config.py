"""What the image serves and how: one JSON file, written by the builder, read once at start-up.

The file lies in the folder `.lightship` of the app's directory (`/app/.lightship/serve.json` in an image); every
path in it is relative to the app's directory. The builder makes a `Config` and writes `encode_config(config)`:

    {"model": {"path": "model.joblib", "format": "joblib", "engine": "sklearn", "sha256": "9f86d0..."},
     "golden": "golden.json"}
    {"app": "serve:app", "health": "/healthz"}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec

from lightship_runtime.environment import PREFIX, port_override
from lightship_runtime.errors import ConfigError

EngineName = Literal[
    "sklearn",
    "onnxruntime",
    "onnxruntime-text",
    "xgboost",
    "lightgbm",
    "catboost",
    "torch",
    "transformers",
    "sentence-transformers",
    "onnxruntime-genai",
    "transformers-generation",
    "llamacpp",
    "vllm",
    "python",
]
Datatype = Literal["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
UrlPath = Annotated[str, msgspec.Meta(pattern=r"^/[!-~]*$", max_length=200)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
_SIZE_LIMIT = 1 << 20  # bytes; a real file has a few hundred


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The model to load.

    Attributes:
        path: The file or folder, relative to the app's directory.
        format: The format's name: joblib, pickle, skops, onnx, xgboost, lightgbm, catboost, torchscript, pt2,
            safetensors, huggingface, onnx-genai, gguf, python.
        engine: Which library runs it.
        sha256: Of the file, in hex, recorded when the image was built. A pickle-based file is loaded only if it is
            this one; other formats may go without.
        trust: Load whatever runs code of the model's author all the same: pickles of which no sha256 is recorded,
            pickled weights of a folder, and the Python files that a folder brings.
        trusted_types: For skops files: types beyond skops's own list that may be constructed.
        task: For transformers folders: the pipeline's task, such as text-classification; None where the folder's
            own configuration says it.
        network: For safetensors files, which hold weights alone: what builds the network, `file.py:name`, a class or
            function without arguments.
        context: For language models: the tokens that prompt and answer may have together, at most the model's own;
            None lets the engine decide.
        quantize: For transformers-generation and vllm: how many bits the weights are loaded with; None for those of
            the files.
        input_dtype: For TorchScript and safetensors files, which do not say it: the type of their input tensors.
        input_shape: For the same: the lengths of one instance's tensor, -1 where any will do; None where unknown.
    """

    path: str
    format: str
    engine: EngineName
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | None = None
    trust: bool = False
    trusted_types: tuple[str, ...] = ()
    task: str | None = None
    network: Annotated[str, msgspec.Meta(pattern=r"^[^:]+\.py:[A-Za-z_]\w*$", max_length=300)] | None = None
    context: Annotated[int, msgspec.Meta(ge=16, le=1 << 24)] | None = None
    quantize: Literal["4bit", "8bit"] | None = None
    input_dtype: Datatype = "float32"
    input_shape: tuple[Annotated[int, msgspec.Meta(ge=-1, le=1 << 31)], ...] | None = None


class Serving(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one server listens, works and stops: what a person may set, with the same names everywhere.

    `[serve]` of lightship.toml, the variables LIGHTSHIP_<NAME IN CAPITALS> and the flags of `lightship serve` all set
    these, the later ones being stronger.

    Attributes:
        host: The address to listen on.
        port: The port to listen on.
        grpc_port: The port for the Open Inference Protocol over gRPC, which needs the extra `grpc`; None for none.
        health: The path that answers 200 when the server is ready; the health check asks it.
        name: What the Open Inference Protocol and the pages call the model.
        workers: Processes that predict. The model is loaded once and shared by them where its engine can.
        share: Whether the workers are forks of one process that has loaded the model; None lets the engine decide.
        threads: CPUs that one prediction may use; None shares the container's CPUs among the workers.
        concurrency: Predictions that may run at once in each worker; None means one.
        batch: Requests that may be predicted together; 1 for a model that cannot.
        batch_seconds: How long one batch should take at most; where it takes longer smaller ones are made.
        queue: Requests that may wait for their turn; beyond it the answer is 429.
        queue_bytes: Bytes of bodies that may wait for their turn; beyond it the answer is 429.
        queue_tokens: Tokens of prompts that may wait for their turn, for models that write; beyond it the answer is
            429. None means as many as the model works on at once: its context times the texts that it writes at once.
        timeout: Seconds from a request's arrival to its answer, and in a text that is written from one token to the
            next; after it the answer is 504.
        body_limit: Largest request body, in bytes; beyond it the answer is 413.
        head_timeout: Seconds that a client may take to send a request's head; after it the answer is 408.
        body_timeout: Seconds that a client may take to send its body; after it the answer is 408.
        heartbeat: Seconds of silence after which a stream of events gets a comment, so that no proxy closes it.
        pages: Whether there is a page to try the model in a browser, and a description of the API.
        pages_open: Whether the pages are answered without an API key, which they then ask for themselves; the
            description of the model's API is not. Where not, the browser prompts for the key, as the password.
        cors: Origins whose pages may ask from a browser, such as https://example.org; "*" for all.
        access_log: Which requests are logged: all, those that ended with a 5xx status, or none.
        metrics_open: Whether /metrics is answered without an API key.
        tls_certificate: A PEM file with the certificate and its chain, for HTTPS.
        tls_key: A PEM file with the private key, where it is not in the same file.
        linger: Seconds after SIGTERM in which connections are still accepted, and answered with
            `Connection: close`, so that no client is cut off between two requests.
        grace: Seconds that accepted requests may take to finish after that.
    """

    host: str = "0.0.0.0"  # noqa: S104  # a container is reached from outside, or not at all
    port: Port = 8080
    grpc_port: Port | None = None
    health: UrlPath = "/health"
    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "model"
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    share: bool | None = None
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    batch: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 256
    batch_seconds: Positive = 0.1
    queue: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 256
    queue_bytes: Annotated[int, msgspec.Meta(ge=1)] = 256 << 20
    queue_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    timeout: Positive = 60.0
    body_limit: Annotated[int, msgspec.Meta(ge=1)] = 10 << 20
    head_timeout: Positive = 10.0
    body_timeout: Positive = 30.0
    heartbeat: Positive = 15.0  # as the HTML standard advises (9.2.7): old proxies give up after little more
    pages: bool = True
    pages_open: bool = False
    cors: tuple[Annotated[str, msgspec.Meta(pattern=r"^(\*|https?://[!-~]+)$", max_length=300)], ...] = ()
    access_log: Literal["all", "errors", "off"] = "errors"
    metrics_open: bool = False
    tls_certificate: str | None = None
    tls_key: str | None = None
    linger: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    grace: Positive = 30.0


class Config(Serving, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything about one server. Exactly one of `model` and `app` is set.

    Attributes:
        model: The model that Lightship's own server loads.
        app: The user's own application instead, `module:name`, ASGI or WSGI.
        golden: The golden request and answer; asked before the server is ready (with `model` only).
        golden_mismatch: Whether another answer than the golden one keeps the server from starting.
    """

    model: ModelFile | None = None
    app: Annotated[str, msgspec.Meta(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    golden: str | None = None
    golden_mismatch: Literal["refuse", "warn"] = "refuse"

    def __post_init__(self) -> None:
        if (self.model is None) == (self.app is None):
            raise ValueError("exactly one of `model` and `app` must be set")
        network = self.model.network.partition(":")[0] if self.model and self.model.network else None
        for path in (self.model.path if self.model else None, network, self.golden):
            if path is not None and not _stays_inside(path):
                raise ValueError("a path must be relative and stay inside the app's directory")


def encode_config(config: Config) -> bytes:
    """The file's content: the same bytes for equal values."""
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


def load_config(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and check the file, and let the environment override what can be set. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            content = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(
            f"Could not read the configuration {path}: {error.strerror}.",
            hint="The builder writes it into the image; elsewhere, set LIGHTSHIP_CONFIG to its path.",
        ) from error
    if len(content) > _SIZE_LIMIT:
        raise ConfigError(f"The configuration {path} is larger than {_SIZE_LIMIT} bytes.")
    try:
        config = msgspec.json.decode(content, type=Config)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(
            f"The configuration {path} is not valid: {error}.", hint="Build the image again."
        ) from error
    return _overridden(config, environ)


def _overridden(config: Config, environ: Mapping[str, str]) -> Config:
    """The configuration with what LIGHTSHIP_* variables say. Raises ConfigError."""
    changes: dict[str, object] = {}
    for field in msgspec.structs.fields(Serving):
        variable = PREFIX + field.name.upper()
        given = environ.get(variable)
        if not given or field.name == "port":
            continue
        value: object = given.split(",") if field.name == "cors" else given
        try:
            changes[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{variable} is {given[:40]!r}, which cannot be: {str(error)[:1].lower()}{str(error)[1:]}."
            ) from error
    if (port := port_override(environ)) is not None:
        changes["port"] = port
    return msgspec.structs.replace(config, **changes) if changes else config


def changed_settings(config: Config) -> dict[str, object] | None:
    """The settings that are not the default, for the log; no secret is among them. None where there are none."""
    changed = {
        field.name: getattr(config, field.name)
        for field in msgspec.structs.fields(Serving)
        if getattr(config, field.name) != field.default and field.name != "port"
    }
    return changed or None


def app_directory(path: Path) -> Path:
    """The app's directory, to which the paths in the configuration file `path` are relative."""
    return path.absolute().parent.parent


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return (bool(parts) or path == ".") and not path.startswith("/") and ".." not in parts and "\0" not in path
