"""`jackline`, which writes down at its end what it has imported.

Called like `python -m workers.program`; the file is named by OBSERVED_MODULES. A module that was
hidden from others (None in `sys.modules`) was not imported.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import ModuleType

from workers.program import main


def observed() -> int:
    target = Path(os.environ.pop("OBSERVED_MODULES"))
    try:
        return main()
    finally:
        modules: dict[str, ModuleType | None] = {**sys.modules}
        imported = sorted(name for name, module in modules.items() if module is not None)
        target.write_text(json.dumps(imported))


if __name__ == "__main__":
    sys.exit(observed())
