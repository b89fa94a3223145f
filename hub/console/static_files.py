"""Our own and third-party files of the pages, from the package.

Rules: an address with a digest is kept by browsers for a year; what has none is asked for again by
its ETag. Nothing outside the folder is served, whatever the path says.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from hub.console.rendering import STATIC

_YEAR = "public, max-age=31536000, immutable"


class PackagedFiles(StaticFiles):
    """Static files with the headers that let a browser keep them."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Serve one file, or 404."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = _YEAR if scope["query_string"] else "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
