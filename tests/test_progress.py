import io
import os
import pty

import pytest

from bench.common import progress
from bench.common.progress import Progress, clock, shown


@pytest.fixture
def time(monkeypatch):
    """A clock that the test moves by hand."""

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_plain_lines_say_rate_and_time_left_and_are_not_many(time):
    stream = io.StringIO()
    work = Progress(stream)
    work.start("training", 1000, "steps")
    for _ in range(1000):
        time.now += 0.125  # which floats hold exactly
        work.advance(1, loss="1.2345")
    work.stop()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 9  # one in 15 s of these 125 s, and the last
    assert lines[0] == "training: 120/1,000 steps  8.0/s  1:50 left  loss 1.2345"
    assert lines[-1] == "training: 1,000/1,000 steps  8.0/s  in 2:05  loss 1.2345"


def test_notes_stay_until_replaced_and_a_new_piece_of_work_has_none(time):
    stream = io.StringIO()
    work = Progress(stream)
    work.start("training", 2, "steps")
    work.advance(0, loss="1.0", validation="0.5")
    time.now += 20
    work.advance(1, loss="0.9")
    work.start("embedding", 512, "images")
    work.advance(512)
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith("loss 0.9  validation 0.5")
    assert lines[1].startswith("embedding: 512/512 images") and "loss" not in lines[1]


def test_a_line_is_only_due_when_it_will_be_drawn(time):
    work = Progress(io.StringIO())
    work.start("training", 100, "steps")
    assert not work.due()
    time.now += progress.LINE_S
    assert work.due()
    work.advance(1)
    assert not work.due()
    assert work.due(units=99)


def test_stopped_in_the_middle_no_line_claims_the_end(time):
    stream = io.StringIO()
    with pytest.raises(RuntimeError), shown() as show:
        show("decoding", 1, 10)
        raise RuntimeError
    work = Progress(stream)
    work.start("training", 100, "steps")
    work.advance(40)
    work.stop()
    assert stream.getvalue() == ""


def test_the_callback_of_data_sources_restarts_for_every_file(capsys):
    with shown() as show:
        show("first", 50, 100)
        show("first", 100, 100)
        show("second", 7, 7)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" items")[0] for line in lines] == ["first: 100/100", "second: 7/7"]


def test_time_is_written_for_people():
    assert [clock(seconds) for seconds in (0, 59.6, 61, 3725)] == ["0:00", "1:00", "1:01", "1:02:05"]


@pytest.fixture
def terminal(monkeypatch):
    """A terminal: a stream to write to, and a function that closes it and returns what it would show."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    master, slave = pty.openpty()
    stream = open(slave, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - a file descriptor

    def content() -> str:
        stream.close()
        text = b""
        try:
            while part := os.read(master, 65536):
                text += part
        except OSError:  # what Linux says at the end of a terminal's output
            pass
        os.close(master)
        return text.decode()

    return stream, content


def test_a_terminal_gets_a_bar_that_ends_full_and_gives_the_cursor_back(terminal):
    stream, content = terminal
    work = Progress(stream)
    assert work.terminal
    work.start("training", 20, "steps")
    for _ in range(20):
        work.advance(1, loss="0.5")
    work.stop()
    text = content()
    last = text.split("\x1b[2K")[-1]
    assert "training" in last and "100%" in last and "steps/s" in last and "loss 0.5" in last
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    assert text.rindex("\x1b[?25h") > text.rindex("100%")


def test_names_are_text_and_not_markup_or_commands_of_the_terminal(terminal):
    stream, content = terminal
    work = Progress(stream)
    work.start("decoding folder:p[/q][bold]\x1b[31m\u202e", 20, "images")
    work.advance(20, loss="[/x]")
    work.stop()
    last = content().split("\x1b[2K")[-1]
    assert "folder:p[/q][bold]\\x1b[31m\\u202e" in last and "[/x]" in last


def test_a_bar_stopped_in_the_middle_leaves_its_last_state_on_a_line_of_its_own(terminal):
    stream, content = terminal
    work = Progress(stream)
    work.start("training", 20, "steps")
    work.advance(5)
    work.stop()
    print("error: interrupted", file=stream)
    text = content()
    assert " 25%" in text.split("\x1b[2K")[-1]
    assert text.endswith("\x1b[?25herror: interrupted\r\n") or text.endswith("\nerror: interrupted\r\n")
