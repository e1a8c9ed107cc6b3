"""The magics: ``%coreml COMMAND …`` and ``%%coreml profile``.

They parse, call the public API and give its result back. Their options are the parameters of the
functions they call, so the two cannot drift apart.
"""

# ruff: noqa: T201 - a magic prints
from __future__ import annotations

import argparse
import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import (
    Magics,
    line_cell_magic,
    magics_class,
    needs_local_scope,
    no_var_expand,
    output_can_be_silenced,
)

import coreml_lab as cl
from coreml_lab import caching
from coreml_lab import config as settings
from coreml_lab.magic_words import Expression, HelpShown, split, words_of
from coreml_lab.records import Recording

NAME = "coreml"
# What of cl.profile() means something for a cell.
OF_A_CELL = ("runs", "warmup", "spans")


def devices() -> None:
    """Every device, with the reason for each that is missing."""
    print(cl.devices())


def cache(action: caching.Do = "list", *, key: str = "", file: str = "") -> None:
    """The compiled programs that are kept: list, verify, clear, export or import them.

    Args:
        action: what to do.
        key: one entry, by its key or how that begins: for clear and export.
        file: the file that export writes and import reads.
    """
    print(caching.cache(action, key, Path(file) if file else None)[0])


def config(*changes: str) -> None:
    """The settings in force; ``config interval=0.2`` changes one."""
    chosen = {}
    for change in changes:
        name, _, text = change.partition("=")
        variable = settings.PREFIX + name.upper()
        # The environment's reader knows every setting's type; configure() knows which exist.
        try:
            parsed = settings.from_environment({variable: text})
        except cl.errors.UnknownParameter as error:
            told = f"{change}: not a value of this setting"
            raise cl.errors.UnknownParameter(told, hint=f"%{NAME} config shows them") from error
        chosen[name] = getattr(parsed, name, text)
    if chosen:  # all of them, or none where one is wrong
        cl.configure(**chosen)
    current = settings.current()
    for name, variable, _, text in settings.rows():
        value = getattr(current, name)
        value = value.name if isinstance(value, cl.Strategy) else value
        print(f"{name:<12} {value!s:<24} {variable:<24} {text}")


def strategy(aim: Literal["show", "performance", "battery", "balanced"] = "show") -> None:
    """What programs that are split over engines aim at: show, or set."""
    print(cl.strategy(None if aim == "show" else aim))


@dataclass(frozen=True)
class Command:
    """One word after ``%coreml``. ``find`` gets the function, late: some are heavy to import."""

    find: Callable[[], Callable[..., Any]]
    help: str


COMMANDS: dict[str, Command] = {
    "doctor": Command(lambda: cl.doctor, "what works on this machine, and why the rest does not"),
    "devices": Command(lambda: devices, "every device, with the reason for each that is missing"),
    "dashboard": Command(lambda: cl.Dashboard, "live panels of this kernel"),
    "inspect": Command(lambda: cl.Inspector, "the graph of a model, or of two, to walk in"),
    "profile": Command(lambda: cl.profile, "measure a model, or, as %%coreml profile, a cell"),
    "report": Command(lambda: cl.report, "explain a recording"),
    "suggest": Command(
        lambda: cl.suggest, "what could be better about a model, tried and measured"
    ),
    "optimize": Command(
        lambda: cl.optimize, "a copy that is better by what is measured, with its ledger"
    ),
    "tune": Command(lambda: cl.tune, "many ways to run a model, tried in parallel"),
    "compare": Command(lambda: cl.compare, "one model on several devices, in turns"),
    "placement": Command(
        lambda: cl.placement, "where Core ML would run each operation on a chip: an estimate"
    ),
    "energy": Command(lambda: cl.energy, "joules per inference, where there is a counter"),
    "diff": Command(lambda: cl.diff_recordings, "what changed between two recordings"),
    "check": Command(lambda: cl.check, "limits on results, time and size: kept or not"),
    "strategy": Command(lambda: strategy, "what a split over engines aims at: show, or set"),
    "plan": Command(lambda: cl.plan, "how a model would be split over the engines that are here"),
    "cache": Command(lambda: cache, "compiled programs that are kept: list, verify, clear, …"),
    "config": Command(lambda: config, "settings: show, or change with name=value"),
}

DOCUMENTATION = (
    "The notebook laboratory for Apple Core ML.\n\n"
    "    %coreml COMMAND [what] [options]    %coreml COMMAND --help\n"
    "    %%coreml profile [-n RUNS] [-o NAME]    measure what the cell runs\n\n"
    + "\n".join(f"    {name:<10} {command.help}" for name, command in COMMANDS.items())
    + "\n\nWhat a command works on is any expression: %coreml compare model {'x': a}\n"
    "-o NAME keeps the result in a variable; a semicolon at the end shows nothing.\n"
)


def parser(name: str, *, cell: bool = False) -> argparse.ArgumentParser:
    """The options of a command: the parameters of its function.

    Args:
        name: the command.
        cell: for ``%%coreml``: what is measured is the cell, once unless ``-n`` says more.
    """
    title = f"%{'%' if cell else ''}{NAME} {name}"
    return words_of(COMMANDS[name].find(), title, only=OF_A_CELL if cell else ())


@magics_class
class CoreMLMagics(Magics):
    """``%coreml`` and ``%%coreml``."""

    @no_var_expand
    @needs_local_scope
    @output_can_be_silenced
    @line_cell_magic
    def coreml(
        self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a command. IPython shows ``DOCUMENTATION`` in place of this line."""
        words = split(line)
        if not words or words[0] in {"-h", "--help", "help"}:
            print(DOCUMENTATION)
            return None
        name, *rest = words
        if name not in COMMANDS:
            raise UsageError(f"there is no command {name!r}; one of: {', '.join(COMMANDS)}")
        if cell is not None and name != "profile":
            raise UsageError(f"%%{NAME} {name} takes no cell; write %{NAME} {name}")
        with contextlib.suppress(HelpShown):
            options = vars(parser(name, cell=cell is not None).parse_args(rest))
            target = options.pop("-o")
            if cell is not None:
                return self._cell(cell, options, target)
            with _plain_errors():
                return self._keep(target, self._call(name, options, local_ns or {}))
        return None

    def _call(self, name: str, options: dict[str, Any], local_ns: Mapping[str, Any]) -> Any:
        function = COMMANDS[name].find()
        values = {k: self._value(v, local_ns) for k, v in options.items() if v is not None}
        parameters = inspect.signature(function).parameters.values()
        rest = [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
        # What stands before a list of others can only be given by its place.
        given = [
            values.pop(p.name) for p in parameters if rest and p.kind is p.POSITIONAL_OR_KEYWORD
        ]
        given += [self._value(word, local_ns) for key in rest for word in values.pop(key, ())]
        return function(*given, **values)

    def _value(self, value: Any, local_ns: Mapping[str, Any]) -> Any:
        if not isinstance(value, Expression):
            return value
        try:
            return eval(value, {**self._shell.user_ns, **local_ns})  # noqa: S307 - the user's own cell
        except (NameError, SyntaxError) as error:
            raise UsageError(f"{value}: {error}") from error

    def _cell(self, cell: str, options: Mapping[str, Any], target: str | None) -> Any:
        """Run the cell inside ``cl.profile()``, as often as asked; its own errors stay its own."""
        code = self._compiled(cell)
        for _ in range(options["warmup"]):
            exec(code, self._shell.user_ns)  # noqa: S102 - the user's own cell
        profile = cl.profile(spans=options["spans"])
        try:
            with profile:
                for _ in range(options["runs"]):
                    exec(code, self._shell.user_ns)  # noqa: S102 - the user's own cell
        except BaseException:
            if profile.recordings:
                self._keep(target, profile.recording)
            raise
        with _plain_errors():
            recording = profile.recording
        others = [other.program.name for other in profile.recordings[1:]]
        if others:
            print(f"{len(others)} more ran for less time, and are not shown: {', '.join(others)}")
        return self._keep(target, recording)

    def _compiled(self, cell: str) -> Any:
        shell = self._shell
        source = shell.transform_cell(cell)  # type: ignore[no-untyped-call]
        # Kept where tracebacks look for source lines.
        name = shell.compile.cache(source, shell.execution_count, raw_code=cell)
        parsed = shell.compile.ast_parse(source, filename=name)
        tree = shell.transform_ast(parsed)  # type: ignore[no-untyped-call]
        return compile(tree, name, "exec")

    def _keep(self, target: str | None, result: Any) -> Any:
        if target is not None:
            self._shell.user_ns[target] = result
        return result

    @property
    def _shell(self) -> InteractiveShell:
        shell = self.shell
        if shell is None:
            raise UsageError(f"%{NAME} needs an IPython shell")
        return shell


# What %coreml? shows.
CoreMLMagics.coreml.__doc__ = DOCUMENTATION


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Our errors say what to try: in a notebook they need no traceback."""
    try:
        yield
    except cl.errors.LabError as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise UsageError(str(error)) from error


def complete(shell: InteractiveShell, event: Any) -> list[str]:
    """What may follow: commands, a command's options, the user's own names."""
    words = event.line.split()
    typed = words[1:] if not event.line.endswith(" ") else [*words[1:], ""]
    cell = event.line.lstrip().startswith("%%")
    if len(typed) <= 1:
        return ["profile"] if cell else list(COMMANDS)
    if typed[0] not in COMMANDS:
        return []
    options = [o for o in parser(typed[0], cell=cell)._option_string_actions if o != "-h"]  # noqa: SLF001
    names = [] if cell else [name for name in shell.user_ns if not name.startswith("_")]
    return options if event.symbol.startswith("-") else [*names, *options]


def _as_html(recording: Recording) -> str:
    return str(cl.report(recording).to_html())


def _as_text(recording: Recording, printer: Any, cycle: bool) -> None:
    printer.text("Recording(…)" if cycle else str(cl.report(recording)))


def load(shell: InteractiveShell) -> None:
    """Register the magics, their completion, the look of recordings; twice is once."""
    unload(shell)
    shell.register_magics(CoreMLMagics(shell=shell))
    for key in _escaped():
        shell.set_hook("complete_command", complete, str_key=key)  # type: ignore[no-untyped-call]
    if shell.display_formatter is not None:
        shell.display_formatter.formatters["text/html"].for_type(Recording, _as_html)
        shell.display_formatter.formatters["text/plain"].for_type(Recording, _as_text)
    _cells().watch(shell)


def unload(shell: InteractiveShell) -> None:
    """Take back what ``load`` registered."""
    for magics in shell.magics_manager.magics.values():
        magics.pop(NAME, None)
    shell.magics_manager.registry.pop(CoreMLMagics.__name__, None)
    for key in _escaped():
        shell.strdispatchers["complete_command"].strs.pop(key, None)
    if shell.display_formatter is not None:
        for kind in ("text/html", "text/plain"):
            shell.display_formatter.formatters[kind].type_printers.pop(Recording, None)
    _cells().unwatch()


def _escaped() -> Sequence[str]:
    return (f"%{NAME}", f"%%{NAME}")


def _cells() -> Any:
    from coreml_lab.widgets.cells import CELLS  # noqa: PLC0415 - only a notebook needs it

    return CELLS
