"""An event loop in a thread of its own, for users' async functions and for libraries that have no other form.

One loop for everything, because what load() opens (clients, pools) belongs to the loop that it was opened in.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

_END = object()


class EventLoop:
    """Runs coroutines for threads that have no loop; several threads may wait at once.

    It lives as long as the process does, or until `stop`.
    """

    def __init__(self, name: str = "user-async") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def start(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine without waiting for it. Cancelling what is returned cancels the coroutine."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self) -> None:
        """Cancel all that runs, and end the thread."""
        self.wait(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

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


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
