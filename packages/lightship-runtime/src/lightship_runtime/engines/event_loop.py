"""An event loop in a thread of its own, for users' async functions: it lives as long as the process does.

One loop for everything, because what load() opens (clients, pools) belongs to the loop that it was opened in.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Iterator, Sequence
from typing import Any

_END = object()


class EventLoop:
    """Runs coroutines for threads that have no loop; several threads may wait at once."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="user-async", daemon=True).start()

    def wait(self, coroutine: Awaitable[Any]) -> Any:
        """The coroutine's result. Raises what it raises."""
        return asyncio.run_coroutine_threadsafe(_awaited(coroutine), self._loop).result()

    def wait_for_all(self, coroutines: Sequence[Awaitable[Any]]) -> list[Any]:
        """The results in order; all run at once. Raises the first failure, when all have ended."""
        results: list[Any] = self.wait(_gathered(coroutines))
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def iterate(self, parts: AsyncGenerator[Any, None]) -> Iterator[Any]:
        """What an async generator yields. Closing the iterator closes the generator in its loop."""
        try:
            while (part := self.wait(anext(parts, _END))) is not _END:
                yield part
        finally:
            self.wait(parts.aclose())


async def _awaited(coroutine: Awaitable[Any]) -> Any:
    return await coroutine


async def _gathered(coroutines: Sequence[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*coroutines, return_exceptions=True)
