"""Our own and third-party files of the pages, from the package.

Rules: an address below the files' digest is kept by browsers for a year, and a module that imports
its neighbour stays below it; any other is asked for again by its ETag, that of a version before,
too. Nothing outside the folder is served, whatever the path says.
"""

from __future__ import annotations

import re

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from hub.console.rendering import DIGEST_CHARS, STATIC, digest

_BELOW_DIGEST = re.compile(rf"([0-9a-f]{{{DIGEST_CHARS}}})/(.+)", re.DOTALL)
_YEAR = "public, max-age=31536000, immutable"


class PackagedFiles(StaticFiles):
    """Static files with the headers that let a browser keep them."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Serve one file, or 404."""
        found = _BELOW_DIGEST.fullmatch(path)
        response = await super().get_response(found[2] if found else path, scope)
        is_this = found is not None and found[1] == digest()
        response.headers["Cache-Control"] = _YEAR if is_this else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
