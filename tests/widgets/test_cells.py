"""Which cell runs: IPython's events, nested cells, missed starts."""

from __future__ import annotations

from coreml_lab.clock import FakeClock
from coreml_lab.widgets.cells import Cells, first_line, shell_or_none


def test_a_cell_has_its_number_its_first_line_and_two_times(shell):
    clock = FakeClock(t_ns=5 * 10**9)
    cells = Cells(clock)
    cells.watch(shell)
    shell.begin("\n  model.predict(x)\nmore")
    assert cells.current is not None
    assert (cells.current["n"], cells.current["src"]) == (1, "model.predict(x)")
    clock.advance(2)
    shell.finish()
    assert cells.current is None
    ended = cells.seen[-1]
    assert (ended["t0"], ended["t1"], ended["ok"]) == (5.0, 7.0, True)


def test_a_failed_cell_says_so_and_a_later_one_has_the_next_number(shell):
    cells = Cells(FakeClock())
    cells.watch(shell)
    shell.begin("1/0")
    shell.finish(success=False)
    shell.begin("ok")
    assert cells.seen[0]["ok"] is False
    assert cells.seen[1]["n"] == 2


def test_an_end_without_a_start_is_tolerated(shell):
    cells = Cells(FakeClock())
    cells.watch(shell)
    shell.finish()
    assert list(cells.seen) == []


def test_a_cell_that_a_cell_runs_belongs_to_it(shell):
    cells = Cells(FakeClock())
    cells.watch(shell)
    shell.begin("%%time\nf()")
    shell.begin("f()", store_history=False)
    shell.finish()
    assert cells.current is not None
    shell.finish()
    assert cells.current is None
    assert len(cells.seen) == 1


def test_a_start_closes_a_cell_whose_end_was_missed(shell):
    cells = Cells(FakeClock())
    cells.start(1, "lost")
    cells.start(2, "next")
    assert [c["n"] for c in cells.seen] == [1, 2]
    assert cells.seen[0]["t1"] is not None


def test_a_running_cell_whose_start_was_missed_is_adopted(shell):
    shell.user_ns["In"] += ["first", "cl.Dashboard(model)"]
    cells = Cells(FakeClock())
    cells.adopt()
    assert cells.current is None
    cells.watch(shell)
    cells.adopt()
    cells.adopt()
    assert [(c["n"], c["src"]) for c in cells.seen] == [(2, "cl.Dashboard(model)")]


def test_watching_twice_watches_once_and_unwatching_ends_it(shell):
    cells = Cells(FakeClock())
    cells.watch(shell)
    cells.watch(shell)
    cells.watch(None)
    assert len(shell.events.callbacks["pre_run_cell"]) == 1
    cells.unwatch()
    assert shell.events.callbacks == {"pre_run_cell": [], "post_run_cell": []}


def test_who_asked_is_called_when_a_cell_ends():
    cells, heard = Cells(FakeClock()), []
    cells.on_end.append(lambda: heard.append(1))
    cells.start(1, "x")
    cells.end(ok=True)
    assert heard == [1]


def test_the_first_line_is_the_first_that_says_something_and_is_not_endless():
    assert first_line("\n\n  x = 1  \ny") == "x = 1"
    assert first_line("   ") == ""
    assert len(first_line("a" * 500)) == 120


def test_plain_python_has_no_shell():
    assert shell_or_none() is None
