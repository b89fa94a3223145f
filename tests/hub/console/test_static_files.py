"""Files of the pages: kept for a year below their digest, asked for again anywhere else."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.exceptions import HTTPException

from hub.console.rendering import DIGEST_CHARS, STATIC, asset, digest
from hub.console.static_files import PackagedFiles


def get(path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=PackagedFiles())
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            return await client.get(path)

    return asyncio.run(ask())


def below_digest(name: str) -> str:
    return asset(name).removeprefix("/static")


def test_what_is_below_the_digest_is_kept_for_a_year() -> None:
    answer = get(below_digest("console.css"))
    assert answer.status_code == 200
    assert answer.content == (STATIC / "console.css").read_bytes()
    assert "immutable" in answer.headers["Cache-Control"]


def test_a_page_of_the_version_before_gets_its_files_and_keeps_none() -> None:
    older = "0" * DIGEST_CHARS
    assert older != digest()
    for path in (f"/{older}/console.css", "/console.css"):
        answer = get(path)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")


@pytest.mark.parametrize("name", ["nothing.js", "%2e%2e/rendering.py", "..%2f..%2frendering.py"])
def test_nothing_else_is_served(name: str) -> None:
    for path in (f"/{name}", f"/{digest()}/{name}"):
        with pytest.raises(HTTPException) as refused:
            get(path)
        assert refused.value.status_code == 404


def test_modules_import_their_neighbours_by_where_they_are() -> None:
    for path in STATIC.glob("*.js"):
        assert 'from "/' not in path.read_text(encoding="utf-8"), path.name
