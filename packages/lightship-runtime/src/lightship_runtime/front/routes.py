"""Which path leads to which handler."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lightship_runtime.front.request import Request

Handler = Callable[[Request], None]


@dataclass(frozen=True)
class Route:
    """One path. `open` routes are answered without a key.

    Attributes:
        methods: That are allowed; HEAD comes with GET.
        path: As clients send it. A last part `*` stands for anything, slashes as well.
        handler: Answers the request, now or later.
        open: Whether no key is asked for.
        typed: Whether people type its address into a browser, which may then prompt them for the key.
        quiet: Whether errors of an open route are left out of the access log: a health check's 503 is an answer.
        name: In metrics, so that paths from outside do not become names of series.
    """

    methods: tuple[str, ...]
    path: str
    handler: Handler
    open: bool = False
    typed: bool = False
    quiet: bool = True

    @property
    def name(self) -> str:
        """In metrics and logs, so that paths from outside never become names of series."""
        return self.path


class Routes:
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, list[Route]] = {}
        self._below: list[tuple[str, Route]] = []
        for route in routes:
            if route.path.endswith("/*"):
                self._below.append((route.path[:-1], route))
            else:
                self._exact.setdefault(route.path, []).append(route)

    def find(self, method: str, path: str) -> tuple[Route | None, tuple[str, ...]]:
        """The route, or None and the methods that the path would allow; none at all where there is no such path."""
        found = self._exact.get(path)
        if found is None:
            found = [route for prefix, route in self._below if path.startswith(prefix)]
        for route in found:
            if method in route.methods or (method == "HEAD" and "GET" in route.methods):
                return route, ()
        return None, tuple(allowed for route in found for allowed in route.methods)
