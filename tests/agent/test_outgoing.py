"""The fair send queue: order, turns, what a lost connection takes with it, waking the writer."""

from __future__ import annotations

import threading

from agent.outgoing import Ack, Data, EnginePacket, Final, Item, Outgoing, Plain
from wire.events import ToServer
from wire.link import Pong
from wire.shell import ShellClosed, ShellOutput

DEADLINE_S = 120.0


def output(session: str, data: str = "x") -> ShellOutput:
    return ShellOutput(session=session, data=data)


def closed(session: str) -> ToServer:
    return ShellClosed(session=session)


def opened() -> Outgoing:
    queue = Outgoing()
    queue.open()
    return queue


def drain(queue: Outgoing) -> list[Item]:
    items: list[Item] = []
    while (item := queue.take(timeout_s=0)) is not None:
        queue.sent(item)
        items.append(item)
    return items


def test_queue_gives_engine_pong_control_final_latest_data_in_this_order() -> None:
    queue = opened()
    queue.data("s", output("s"), 1)
    queue.latest("stats", closed("newest"))
    queue.final(Final(1, "shell_closed", b"{}"))
    queue.control(closed("refused"))
    queue.first(Plain(Pong(ts=1)))
    queue.engine(EnginePacket("3"))
    assert drain(queue) == [
        EnginePacket("3"),
        Plain(Pong(ts=1)),
        Plain(closed("refused")),
        Final(1, "shell_closed", b"{}"),
        Plain(closed("newest")),
        Data("s", output("s"), 1),
    ]


def test_queue_gives_each_session_one_turn() -> None:
    queue = opened()
    for number in range(3):
        queue.data("flood", output("flood", str(number)), 1)
    queue.data("quiet", output("quiet"), 1)
    sessions = [item.session for item in drain(queue) if isinstance(item, Data)]
    assert sessions == ["flood", "quiet", "flood", "flood"]


def test_queue_keeps_a_sessions_own_order() -> None:
    queue = opened()
    for number in range(100):
        queue.data("a", output("a", str(number)), 1)
        queue.data("b", output("b", str(number)), 1)
    items = [item for item in drain(queue) if isinstance(item, Data)]
    for session in "ab":
        said = [item.message.data for item in items if item.session == session]  # type: ignore[union-attr]
        assert said == [str(number) for number in range(100)]


def test_final_of_a_session_follows_its_output() -> None:
    queue = opened()
    queue.data("s", output("s"), 1)
    queue.data("s", output("s"), 1)
    final = Final(1, "shell_closed", b"{}")
    queue.final(final, after="s")
    queue.data("other", output("other"), 1)
    assert drain(queue)[-1] == final


def test_final_without_output_before_it_is_not_held_up() -> None:
    queue = opened()
    queue.data("flood", output("flood"), 1)
    final = Final(1, "shell_closed", b"{}")
    queue.final(final, after="s")
    assert drain(queue)[0] == final


def test_latest_replaces_what_still_waits_and_counts_it() -> None:
    queue = opened()
    for number in range(3):
        queue.latest(("backup_progress", "p"), closed(str(number)))
    queue.latest("other", closed("other"))
    assert drain(queue) == [Plain(closed("2")), Plain(closed("other"))]
    assert queue.superseded == 2


def test_latest_can_be_cancelled() -> None:
    queue = opened()
    queue.latest("p", closed("1"))
    queue.cancel_latest("p")
    assert drain(queue) == []


def test_nothing_but_the_engines_packets_leaves_before_open() -> None:
    queue = Outgoing()
    queue.first(Plain(Pong(ts=1)))
    queue.control(closed("lost"))
    queue.data("s", output("s"), 1)
    queue.latest("stats", closed("kept"))
    queue.engine(EnginePacket("0"))
    assert drain(queue) == [EnginePacket("0")]
    queue.open()
    assert drain(queue) == [Plain(Pong(ts=1)), Plain(closed("kept"))]


def test_close_throws_away_all_but_the_newest_values() -> None:
    queue = opened()
    queue.data("s", output("s"), 1)
    queue.final(Final(1, "x", b"{}"))
    queue.control(closed("c"))
    queue.first(Ack(1))
    queue.engine(EnginePacket(None))
    queue.latest("stats", closed("kept"))
    queue.close()
    assert drain(queue) == []
    queue.open()
    assert drain(queue) == [Plain(closed("kept"))]


def test_drained_tells_the_cost_of_what_has_left() -> None:
    drained: list[tuple[str, int]] = []
    queue = Outgoing(lambda session, cost: drained.append((session, cost)))
    queue.open()
    queue.data("s", output("s"), 4096)
    assert queue.pending("s") == 4096
    item = queue.take(timeout_s=0)
    assert item is not None and drained == []
    queue.sent(item)
    assert drained == [("s", 4096)]
    assert queue.pending("s") == 0


def test_forget_drops_a_sessions_output_but_not_its_final() -> None:
    queue = opened()
    queue.data("s", output("s"), 10)
    queue.data("s", output("s"), 20)
    queue.final(Final(1, "shell_closed", b"{}"), after="s")
    assert queue.forget("s") == 30
    assert drain(queue) == [Final(1, "shell_closed", b"{}")]


def test_queue_is_idle_only_when_nothing_is_in_the_writers_hand() -> None:
    queue = opened()
    assert queue.is_idle()
    queue.control(closed("c"))
    assert not queue.is_idle()
    item = queue.take(timeout_s=0)
    assert item is not None and not queue.is_idle()
    queue.sent(item)
    assert queue.is_idle()


def test_take_wakes_for_what_is_put_meanwhile() -> None:
    queue = opened()
    taken: list[Item | None] = []
    rounds = 2000

    def write() -> None:
        while len(taken) < rounds:
            item = queue.take(timeout_s=DEADLINE_S)
            if item is None:
                return
            queue.sent(item)
            taken.append(item)

    writer = threading.Thread(target=write)
    writer.start()
    for number in range(rounds):
        queue.data(str(number % 7), output("s", str(number)), 1)
    writer.join(DEADLINE_S)
    assert len(taken) == rounds


def test_take_gives_up_after_its_time_and_sleeps_again() -> None:
    queue = opened()
    for _ in range(3):
        assert queue.take(timeout_s=0.001) is None
    queue.control(closed("c"))
    assert queue.take(timeout_s=0.001) is not None
    assert queue.take(timeout_s=0.001) is None
