"""Learn of the end of child processes on Windows: a thread for each, waiting on its handle.

Same interface as `reaper_posix`; nothing has to be collected here, so `collect` does nothing.
Rules: callbacks come on the thread of the loop that was attached.
Source: Microsoft, "WaitForSingleObject", "GetExitCodeProcess".
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from workers.kernel_windows import Kernel, real_kernel
from workers.loop import Loop


class WindowsReaper:
    """Tells who watches a child how it ended."""

    def __init__(self, kernel: Kernel | None = None) -> None:
        self._kernel = real_kernel() if kernel is None else kernel
        self._loop: Loop | None = None
        self._watched: dict[int, Callable[[int], object]] = {}

    def attach(self, loop: Loop) -> None:
        """Call back on this loop's thread; call it before `watch`."""
        self._loop = loop

    def watch(self, pid: int, on_exit: Callable[[int], object]) -> None:
        """Call `on_exit` once with the exit code of `pid`; at once if it is gone already."""
        assert self._loop is not None
        self._watched[pid] = on_exit
        try:
            handle = self._kernel.open_process(pid)
        except OSError:
            self._loop.call_soon(partial(self._tell, pid, 1))
            return
        threading.Thread(target=self._wait, args=(pid, handle), daemon=True).start()

    def forget(self, pid: int) -> None:
        """Nobody asks for this child any more."""
        self._watched.pop(pid, None)

    def collect(self) -> int:
        """Nothing to do: Windows has no zombies."""
        return 0

    def _wait(self, pid: int, handle: int) -> None:
        self._kernel.wait(handle)
        code = self._kernel.exit_code(handle)
        self._kernel.close(handle)
        assert self._loop is not None
        self._loop.call_threadsafe(partial(self._tell, pid, code))

    def _tell(self, pid: int, code: int) -> None:
        on_exit = self._watched.pop(pid, None)
        if on_exit is not None:
            on_exit(code)
