"""The magics, through a real IPython shell."""

from __future__ import annotations

import contextlib
import inspect
import types

import numpy as np
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError

import coreml_lab as cl
from coreml_lab import config, magics
from coreml_lab.records import Recording
from coreml_lab.run.activity import ACTIVITY
from tests.support.fakes import FakeModel, FakeSource, recording


@pytest.fixture(scope="module")
def one_shell():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    yield shell
    # Other tests of this process are not in a notebook.
    InteractiveShell.clear_instance()


@pytest.fixture
def shell(one_shell, monkeypatch):
    """A shell with the extension, a fake model and inputs in its namespace."""
    monkeypatch.setattr("coreml_lab.measure.profiler.SharedSampler", lambda _clock: FakeSource())
    one_shell.run_line_magic("load_ext", "coreml_lab")
    magics.load(one_shell)
    one_shell.user_ns.update(model=FakeModel(), x={"x": np.ones((1, 8), "float32")}, r=recording())
    one_shell.user_ns.update(cl=cl, config=config, contextlib=contextlib)
    yield one_shell
    magics.unload(one_shell)
    one_shell.reset(new_session=False)


def line(shell, text):
    return shell.run_line_magic("coreml", text)


def cell(shell, text, body):
    return shell.run_cell_magic("coreml", text, body)


def matches(shell, text):
    event = types.SimpleNamespace(line=text, symbol=text.split(" ")[-1], command="%coreml")
    return magics.complete(shell, event)


def test_every_command_is_in_the_help(shell, capsys):
    line(shell, "")
    shown = capsys.readouterr().out
    assert all(name in shown for name in magics.COMMANDS)
    assert magics.CoreMLMagics.coreml.__doc__ == magics.DOCUMENTATION


def test_the_question_mark_shows_the_help(shell):
    info = shell.object_inspect("%coreml")
    assert info["found"]
    assert "%%coreml profile" in info["docstring"]


def test_doctor_gives_the_table(shell):
    assert "portable" in str(line(shell, "doctor"))


def test_devices_say_why_one_is_missing(shell, capsys):
    line(shell, "devices")
    assert "cannot be used: " in capsys.readouterr().out


def test_the_strategy_is_shown_and_set(shell, capsys):
    line(shell, "strategy")
    assert "balanced:" in capsys.readouterr().out
    line(shell, "strategy battery")
    line(shell, "strategy show")
    assert "battery:" in capsys.readouterr().out.splitlines()[-1]
    with pytest.raises(UsageError, match="invalid choice"):
        line(shell, "strategy fast")


def test_a_plan_is_printed_by_its_command(shell):
    shell.user_ns["net"] = cl.compile(cl.ops.tanh, x=cl.spec(4))
    assert "1 segment" in str(line(shell, "plan net"))
    assert "strategy battery" in str(line(shell, "plan net 'battery'"))


def test_the_cache_is_listed_and_cleared(shell, capsys, cache_dir):
    line(shell, "cache")
    line(shell, "cache clear")
    shown = capsys.readouterr().out
    assert "0 entries" in shown
    assert f"removed from {cache_dir}" in shown


def test_settings_are_shown_and_changed_with_their_types(shell, capsys):
    line(shell, "config interval=0.2 recover=no")
    assert config.current().interval == 0.2
    assert config.current().recover is False
    assert "COREML_LAB_INTERVAL" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["intervl=1", "interval=fast"])
def test_a_wrong_setting_is_a_usage_error(shell, change):
    with pytest.raises(UsageError, match="interval"):
        line(shell, f"config {change}")


def test_of_several_settings_all_are_changed_or_none(shell):
    before = config.current().interval
    with pytest.raises(UsageError, match="nope"):
        line(shell, "config interval=0.7 nope=1")
    assert config.current().interval == before


@pytest.mark.parametrize(
    "text", ["report r;", "report r ; ", "report r --top 1;", "report r -o t;"]
)
def test_a_semicolon_at_the_end_shows_nothing(shell, text):
    found = shell.run_cell(f"%coreml {text}")
    assert found.success
    assert found.result is None
    assert "t;" not in shell.user_ns


def test_a_report_of_a_recording_takes_the_functions_options(shell):
    found = line(shell, "report r --top 1")
    assert found.tables[1].rows[-1][0] == "1 other"


def test_what_a_command_works_on_is_an_expression(shell):
    found = line(
        shell, "compare model {'x': x['x'] + 1} --devices coreml,cpu --pairs 6 --parts time"
    )
    assert len(found.arms) == 1


def test_suggest_lists_ideas(shell):
    assert len(line(shell, "suggest model --no-measure")) == 1


def test_a_model_is_profiled_by_the_line_magic(shell):
    found = line(shell, "profile model x -n 4 --warmup 0 --no-spans")
    assert len(found.runs) == 4


def test_o_keeps_the_result_in_a_variable(shell):
    found = line(shell, "report r -o kept")
    assert shell.user_ns["kept"] is found


def test_the_inspector_is_made_with_a_model_another_and_a_chip(shell, monkeypatch):
    def inspected(model, other=None, *, chip="M4"):
        return "inspector", model, other, chip

    monkeypatch.setattr(cl, "Inspector", inspected, raising=False)
    model = shell.user_ns["model"]
    assert line(shell, "inspect model model --chip M1") == ("inspector", model, model, "M1")


def test_the_dashboard_is_made_with_its_model(shell, monkeypatch):
    monkeypatch.setattr(cl, "Dashboard", lambda model=None: ("dashboard", model), raising=False)
    assert line(shell, "dashboard model") == ("dashboard", shell.user_ns["model"])


def test_a_cell_runs_as_often_as_asked_in_the_users_namespace(shell):
    body = "count = globals().get('count', 0) + 1\nmodel.predict(x)"
    found = cell(shell, "profile -n 5 -o kept", body)
    assert isinstance(found, Recording)
    assert sum(not run.instrumented for run in found.runs) == 5
    assert found.spans
    assert shell.user_ns["count"] == 5
    assert shell.user_ns["kept"] is found


def test_a_cell_runs_once_where_nothing_is_said(shell):
    assert sum(not r.instrumented for r in cell(shell, "profile", "model.predict(x)").runs) == 1


def test_warm_up_runs_of_a_cell_are_not_recorded(shell):
    found = cell(shell, "profile -n 2 --warmup 3 --no-spans", "model.predict(x)")
    assert len(found.runs) == 2
    assert shell.user_ns["model"].calls == 5


def test_the_recording_is_the_cells_result_and_looks_like_its_report(shell):
    result = shell.run_cell("%%coreml profile -n 2\nmodel.predict(x)", store_history=True)
    assert result.success
    assert shell.user_ns["_"] is result.result
    data, _ = shell.display_formatter.format(result.result)
    assert data["text/plain"].startswith("tiny on Core ML program")
    assert "<table>" in data["text/html"]


def test_magics_inside_a_profiled_cell_work(shell):
    found = cell(shell, "profile", "y = %coreml report r\nmodel.predict(x)")
    assert len(found.runs) == 2
    assert shell.user_ns["y"].headline


def test_other_models_that_ran_are_named(shell, capsys):
    shell.user_ns["other"] = FakeModel(device="cpu")
    cell(shell, "profile", "model.predict(x)\nother.predict(x)")
    assert "1 more ran" in capsys.readouterr().out


def test_an_error_of_the_cell_stays_its_own(shell):
    with pytest.raises(ZeroDivisionError):
        cell(shell, "profile -o kept", "model.predict(x)\n1 / 0")
    assert len(shell.user_ns["kept"].runs) == 1
    assert not ACTIVITY.watchers


def test_a_cell_in_which_no_model_ran_says_so_without_a_traceback(shell):
    with pytest.raises(UsageError, match="no model ran"):
        cell(shell, "profile", "1 + 1")


def test_a_syntax_error_is_the_cells(shell):
    with pytest.raises(SyntaxError):
        cell(shell, "profile", "model.predict(")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense", "one of: doctor"),
        ("report", "usage: %coreml report"),
        ("report r --depth 3", "usage: %coreml report"),
        ("report r --top many", "invalid int value"),
        ("report absent", "absent"),
        ("report r)", "no partner"),
        ("report (r", "no partner"),
        ("report 'r", "no partner"),
        ("compare model x --devices cpu", "two devices"),
        ("cache burn", "invalid choice"),
    ],
)
def test_wrong_use_is_one_line_and_the_usage(shell, text, said):
    with pytest.raises(UsageError) as caught:
        line(shell, text)
    assert said in str(caught.value)


def test_only_profile_takes_a_cell(shell):
    with pytest.raises(UsageError, match="takes no cell"):
        cell(shell, "doctor", "1")


def test_a_command_shows_its_functions_own_words(shell, capsys):
    assert line(shell, "report --help") is None
    assert "Explain a recording" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["profile", "report", "suggest", "compare"])
def test_options_are_the_functions_parameters_with_their_defaults(name):
    function = magics.COMMANDS[name].find()
    actions = {a.dest: a for a in magics.parser(name)._actions}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name == "progress":  # only a program can give it
            continue
        assert parameter.name in actions
        if parameter.default is not parameter.empty and parameter.default is not None:
            assert actions[parameter.name].default == parameter.default


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("m x -n 5", ["m", "x", "-n", "5"]),
        ("m {'x': a} [1, 2]", ["m", "{'x': a}", "[1, 2]"]),
        ("m['a b'] f(1, 2)", ["m['a b']", "f(1, 2)"]),
        ("  ", []),
    ],
)
def test_brackets_and_quotes_keep_their_blanks(text, words):
    assert magics.split(text) == words


def test_numbers_that_may_be_left_out_are_numbers_all_the_same():
    words = ["m", "{}", "-n", "50", "--seconds", "2", "--cold", "1"]
    found = magics.parser("profile").parse_args(words)
    assert (found.runs, found.seconds, found.cold, found.warmup) == (50, 2.0, 1, None)
    with pytest.raises(UsageError, match="invalid int"):
        magics.parser("profile").parse_args(["m", "{}", "-n", "many"])


def test_a_cell_has_the_options_that_mean_something_for_it():
    found = vars(magics.parser("profile", cell=True).parse_args([]))
    assert found == {"runs": 1, "warmup": 0, "spans": True, "-o": None}


def test_completion_knows_commands_options_and_names(shell):
    assert set(magics.COMMANDS) == set(matches(shell, "%coreml "))
    assert "--top" in matches(shell, "%coreml report --t")
    assert "model" in matches(shell, "%coreml compare ")
    assert "--pairs" in matches(shell, "%coreml compare ")
    assert matches(shell, "%%coreml p") == ["profile"]
    assert "-n" in matches(shell, "%%coreml profile -")
    assert matches(shell, "%coreml nonsense x") == []


def test_ipython_completes_through_the_hook(shell):
    with provisionalcompleter():
        found = list(shell.Completer.completions("%coreml dev", 11))
    assert "devices" in [completion.text for completion in found]


def test_loading_twice_is_once_and_unloading_takes_everything_back(shell):
    before = {name: len(calls) for name, calls in shell.events.callbacks.items()}
    magics.load(shell)
    assert {name: len(calls) for name, calls in shell.events.callbacks.items()} == before
    magics.unload(shell)
    magics.unload(shell)
    assert "coreml" not in shell.magics_manager.magics["line"]
    assert "coreml" not in shell.magics_manager.magics["cell"]
    assert "%coreml" not in shell.strdispatchers["complete_command"].strs
    assert Recording not in shell.display_formatter.formatters["text/html"].type_printers


def test_an_operation_that_a_cell_writes_knows_the_cell_and_its_line(shell):
    shell.run_cell("import coreml_lab as cl\ny = cl.ops.relu(cl.tensor([1.0]))", store_history=True)
    number = shell.execution_count - 1
    assert shell.user_ns["y"].value.node.where == f"Cell In[{number}], line 2"


def test_check_takes_a_model_of_the_notebook_and_gives_the_gate(shell):
    shell.user_ns["real"] = cl.compile(cl.ops.relu, x=cl.spec(2))
    gate = line(shell, "check real --max-latency 60s --runs 7 --seconds 1")
    assert gate.passed
    assert gate.models[0].rows[-1].limit == 60
    with pytest.raises(UsageError, match="not a number with a unit"):
        line(shell, "check real --max-latency 60")


def test_placement_is_estimated_by_its_command(shell):
    shell.user_ns["net"] = cl.compile(cl.ops.tanh, x=cl.spec(4))
    assert line(shell, "placement net --chip M2").estimated.chip.name == "M2"
    assert [c.estimated.chip.name for c in line(shell, "placement net --chip M1,M4").chips] == [
        "M1",
        "M4",
    ]


def test_recordings_are_compared_and_reported_together(shell):
    changes = line(shell, "diff r r -o d")
    assert changes is shell.user_ns["d"]
    found = line(shell, "report r d")
    assert changes.page.headline in found.notes


def test_an_option_says_what_its_function_says_of_it(shell, capsys):
    line(shell, "energy --help")
    shown = capsys.readouterr().out
    assert "--seconds VALUE" in shown
    assert "the budget (default 30.0)" in " ".join(shown.split())
    assert "--progress" not in shown


def test_energy_is_measured_of_model_and_inputs(shell, monkeypatch):
    seen = []
    monkeypatch.setattr(cl, "energy", lambda model, inputs: seen.append((model, inputs)))
    line(shell, "energy model x")
    assert seen == [(shell.user_ns["model"], shell.user_ns["x"])]


def test_a_block_holds_in_its_cell_alone_and_a_plain_call_in_all_that_follow(shell):
    shell.run_cell("with cl.configure(threads=3):\n    inside = config.current().threads")
    shell.run_cell("after = config.current().threads; cl.configure(interval=0.4);")
    shell.run_cell("stack = contextlib.ExitStack(); stack.enter_context(cl.configure(threads=4));")
    shell.run_cell("later = config.current().threads, config.current().interval")
    shell.run_cell("stack.close()")
    found = shell.user_ns
    assert (found["inside"], found["after"], found["later"]) == (3, 0, (4, 0.4))
    assert config.current().threads == 0


def test_a_strategy_of_ones_own_is_shown_by_its_name_among_the_settings(shell, capsys):
    cl.strategy(cl.Strategy("mine", energy=0.5))
    line(shell, "config")
    assert "strategy     mine                     COREML_LAB_STRATEGY" in capsys.readouterr().out
