from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.telemetry.rates import Rates, Totals

COUNTERS = st.integers(0, 2**64 - 1)


def rates(before: int, now: int, elapsed_s: float = 2.0) -> dict[str, object]:
    (row,) = Rates({"eth0": Totals(before, 0)}, 100.0).next(
        {"eth0": Totals(now, 0)}, 100 + elapsed_s
    )
    return row


def test_rates_are_bytes_a_second_over_the_interval() -> None:
    watched = Rates({"eth0": Totals(1000, 50)}, 100.0)
    (row,) = watched.next({"eth0": Totals(3000, 50)}, 110.0)
    assert row == {"name": "eth0", "rxBytes": 3000, "txBytes": 50, "rxBps": 200, "txBps": 0}
    (row,) = watched.next({"eth0": Totals(3000, 1050)}, 112.0)
    assert (row["rxBps"], row["txBps"]) == (0, 500)


def test_rates_of_a_counter_that_was_reset_are_zero() -> None:
    assert rates(5_000_000, 100)["rxBps"] == 0
    assert rates(2**40, 100)["rxBps"] == 0


def test_rates_of_a_32_bit_counter_that_wrapped_go_on() -> None:
    assert rates(2**32 - 1000, 1000)["rxBps"] == 1000


def test_rates_of_a_new_interface_are_zero_and_of_a_lost_one_absent() -> None:
    watched = Rates({"eth0": Totals(1, 1)}, 0.0)
    rows = watched.next({"ppp0": Totals(10**9, 10**9)}, 1.0)
    assert [(row["name"], row["rxBps"], row["txBps"]) for row in rows] == [("ppp0", 0, 0)]


def test_rates_without_elapsed_time_are_zero() -> None:
    assert rates(0, 10**9, elapsed_s=0.0)["rxBps"] == 0


def test_rates_come_by_name() -> None:
    rows = Rates({}, 0.0).next({name: Totals(0, 0) for name in "cab"}, 1.0)
    assert [row["name"] for row in rows] == ["a", "b", "c"]


@given(COUNTERS, COUNTERS, st.floats(0, 1e9))
def test_rates_are_never_negative(before: int, now: int, elapsed_s: float) -> None:
    rate = rates(before, now, elapsed_s)["rxBps"]
    assert isinstance(rate, int)
    assert rate >= 0
