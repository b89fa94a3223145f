r"""What a recording prints, without what would make the terminal that plays it act or answer. Pure.

Rules: a list of what may pass, not of what may not: text, plain control characters, SGR, cursor and
screen functions, and modes of the screen. Everything that asks the terminal something (DA, DSR,
DECRQSS, window reports, OSC colours, ENQ), that lets it send (mouse, focus, paste), that writes the
clipboard or a title, and every DCS, APC, PM and SOS string is left out. Sequences may be split
between pieces; the eight-bit controls are read as the two characters that they stand for.
Source: ECMA-48; xterm, "ctlseqs"; fault cases D.
"""

from __future__ import annotations

import re

_MAX_SEQUENCE = 64 << 10
_C1 = re.compile(r"[\x80-\x9f]")
_TOKEN = re.compile(
    r"(?P<text>[^\x00-\x1f\x7f]+|[\x07-\x0d])"
    r"|\x1b\[(?P<private>[<-?]?)(?P<params>[0-9:;]*)(?P<between>[ -/]*)(?P<final>[@-~])"
    r"|\x1b\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)"
    r"|\x1b[PX^_][^\x1b]*\x1b\\"
    r"|\x1b(?P<charset>[()*+][0-9A-Za-z<=>])"
    r"|\x1b(?P<simple>[78=>DEHMc])"
    r"|\x1b[ -/]+[0-~]"
    r"|\x1b[0-OQ-WYZ\\`-~]"
    r"|[\x00-\x06\x0e-\x1a\x1c-\x1f\x7f]"
)
_BEGUN = re.compile(
    r"\x1b(?:\[[<-?]?[0-9:;]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?|[ -/]*)\Z"
)
_SCREEN = frozenset("@ABCDEFGHIJKLMPSTXZ`abdefgmrs")
_MODES = frozenset({"1", "5", "6", "7", "12", "25", "45", "47", "1047", "1048", "1049", "2026"})
_PLAIN_MODES = frozenset({"4", "20"})
RESET = "\x1b[?1049l\x1b[!p\x1b[?25h\x1b[0m"


class Harmless:
    """Filters one recording."""

    def __init__(self) -> None:
        self._held = ""

    def take(self, text: str) -> str:
        """Return what may be printed now; the beginning of a sequence is held back."""
        text = self._held + _C1.sub(lambda found: f"\x1b{chr(ord(found[0]) - 64)}", text)
        self._held = ""
        kept: list[str] = []
        position = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is not None:
                kept.append(_harmless(found))
                position = found.end()
            elif len(text) - position <= _MAX_SEQUENCE and _BEGUN.match(text, position):
                self._held = text[position:]
                break
            else:
                position += 1  # no sequence: the ESC alone is dropped
        return "".join(kept)


def _harmless(found: re.Match[str]) -> str:
    if found["text"] is not None or found["simple"] is not None or found["charset"] is not None:
        return found[0]
    if found["osc"] is not None:
        return found[0] if re.fullmatch(r"8;[^;]*;(https?://[!-~]*)?", found["osc"]) else ""
    if found["final"] is not None:
        return found[0] if _is_harmless(found) else ""
    return ""


def _is_harmless(found: re.Match[str]) -> bool:
    private, between, final = found["private"], found["between"], found["final"]
    if final in "hl" and not between:
        modes = set(found["params"].split(";"))
        return modes <= (_MODES if private == "?" else _PLAIN_MODES if not private else set())
    if between:
        return (between, final) in {(" ", "q"), ("!", "p")} and not private
    if private:
        return private == "?" and final in "JK"
    return final in _SCREEN or (final == "u" and not found["params"])
