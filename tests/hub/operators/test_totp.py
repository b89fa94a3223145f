"""One-time codes by a clock that stands still."""

from __future__ import annotations

import pyotp
import pytest

from hub.operators import totp

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
AT_MS = 1_700_000_010_000


@pytest.mark.parametrize(
    "drift, is_good",
    [(-2, False), (-1, True), (0, True), (1, True), (2, False)],
)
def test_one_step_of_drift_is_forgiven(drift: int, is_good: bool) -> None:
    step = AT_MS // 30_000 + drift
    code = pyotp.TOTP(SECRET).generate_otp(step)
    assert totp.step_of(SECRET, code, AT_MS) == (step if is_good else None)


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "１２３４５６", "12345\n6x"])
def test_what_is_no_code_is_none(code: str) -> None:
    assert totp.step_of(SECRET, code, AT_MS) is None
