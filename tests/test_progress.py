import io

import pytest

from skdistill import progress
from skdistill.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(stream, monkeypatch, *, verbose=1):
    monkeypatch.setattr("sys.stderr", stream)
    bar = progress_bar(description="counting", total=4, verbose=verbose)
    with bar:
        for _ in range(4):
            bar.update()
    return stream.getvalue()


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(progress, "DELAY", 0)


def test_a_terminal_shows_what_is_done_and_the_time_left(monkeypatch, at_once):
    shown = show(Terminal(), monkeypatch)
    assert "counting:   0%" in shown
    assert "4/4 [00:00<00:00" in shown


def test_a_pipe_shows_nothing(monkeypatch, at_once):
    assert show(io.StringIO(), monkeypatch) == ""


def test_silence_is_kept_in_a_terminal(monkeypatch, at_once):
    assert show(Terminal(), monkeypatch, verbose=0) == ""


def test_work_of_no_time_shows_no_bar(monkeypatch):
    assert show(Terminal(), monkeypatch) == ""


def test_a_bar_goes_on_from_what_was_done_before(monkeypatch, at_once):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with progress_bar(description="d", total=4, initial=3, verbose=1) as bar:
        bar.update()
    assert "3/4" in stream.getvalue()
    assert "4/4" in stream.getvalue()
