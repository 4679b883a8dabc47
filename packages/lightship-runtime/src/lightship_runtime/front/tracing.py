"""One OpenTelemetry span per request: the extra `otel`, on where the environment names a collector.

The standard variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, ...) say where spans go and how. A span is
made when the answer has been sent, and a thread of the SDK exports it, so that no request waits for a collector.
The `traceparent` of the request is its parent (W3C Trace Context).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from lightship_runtime.errors import ConfigError
from lightship_runtime.front.request import Request

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """Makes spans of requests that have their answer."""

    def __init__(self, tracer: Any, provider: Any, name: str) -> None:
        self._tracer = tracer
        self._provider = provider
        self._name = name

    def note(self, request: Request, route: str, seconds: float) -> None:
        """Make the span of a request, with attributes named as OpenTelemetry's conventions for HTTP servers."""
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = request.headers.get(b"traceparent")
        carrier = {"traceparent": parent.decode("ascii", "replace")} if parent else {}
        if state := request.headers.get(b"tracestate"):
            carrier["tracestate"] = state.decode("ascii", "replace")
        ended = time.time_ns()
        span = self._tracer.start_span(
            f"{request.method} {route}",
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            start_time=ended - int(seconds * 1e9),
            attributes={
                "http.request.method": request.method,
                "http.route": route,
                "http.response.status_code": request.status or 499,
                "http.request.body.size": len(request.body),
                "lightship.model": self._name,
            },
        )
        if request.status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)

    def close(self) -> None:
        """Export what is left."""
        self._provider.shutdown()


def start_tracing(environ: Mapping[str, str], name: str) -> Tracing | None:
    """Tracing as the environment asks for it, None where it does not. Raises ConfigError without the extra."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(environ.get(one) for one in _ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigError(
            f"The environment asks for OpenTelemetry, which cannot be imported: {error}.",
            hint="Add lightship-runtime[otel] to the requirements, or set OTEL_SDK_DISABLED=true.",
        ) from error
    service = {} if environ.get("OTEL_SERVICE_NAME") else {"service.name": name}
    provider = TracerProvider(resource=Resource.create(service))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider.get_tracer("lightship_runtime"), provider, name)
