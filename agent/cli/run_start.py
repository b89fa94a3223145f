"""Run the agent in the foreground, as its supervisor does.

The first step of `jackline run` alone: a process that stays for months need not hold what it does
not use. msgspec takes `typing_extensions` where it can be imported, for names that `typing` has as
well (0.3 MiB). `dataclasses` asks `inspect`, which brings `ast` and `dis`, about classes without a
docstring alone (0.8 MiB): it is loaded when somebody really asks it something.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from typing import Any


def run(argv: list[str]) -> int:
    """Entry point of `jackline run`."""
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]  # None hides it
    _load_later("inspect")
    from agent.cli import run as command  # only now

    return command.run(argv)


def _load_later(name: str) -> None:
    """Let a module be executed at the first use of something in it.

    Not by importlib's `LazyLoader`: Python 3.11 executes such a module at its next import already.
    """
    spec = find_spec(name)
    if name in sys.modules or spec is None or spec.loader is None:
        return
    module, loader = module_from_spec(spec), spec.loader

    def load(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        loader.exec_module(module)
        vars(module).pop("__getattr__", None)
        return getattr(module, attribute)

    vars(module)["__getattr__"] = load
    sys.modules[name] = module
