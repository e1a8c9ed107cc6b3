"""What may differ between trials, and one choice of it as plain data. Pure."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from coreml_lab.errors import UnknownParameter
from coreml_lab.improve.actions import KINDS
from coreml_lab.plain import to_plain
from coreml_lab.records import Action

ACTIONS = "actions"
# Settings of loading and running, besides actions on the file.
SETTINGS = ("engine", "device", "precision", "packed", "threads", "compute_units", "batch", "rows")
NOTHING = "as it is"
MANY = 10_000


@dataclass(frozen=True)
class Configuration:
    """One way to run a model: what is done to its file, and how it is loaded."""

    actions: tuple[Action, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The same for equal configurations."""
        return json.dumps(to_plain(self), sort_keys=True)

    @property
    def build(self) -> str:
        """The same for those that need the same file."""
        return json.dumps(to_plain(self.actions), sort_keys=True)

    def __str__(self) -> str:
        return ", ".join(
            (*map(told, self.actions), *(f"{k}={v}" for k, v in self.settings.items()))
        )


class Asked(Protocol):
    """What chooses: a trial of Optuna, or a walk over all of a space."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of ``choices``."""
        ...


@dataclass(frozen=True)
class Space:
    """Dimensions and their choices; arguments of actions matter where the action is chosen."""

    actions: Mapping[str, tuple[Action, ...]]
    arguments: Mapping[str, tuple[Any, ...]]
    settings: Mapping[str, tuple[Any, ...]]

    def choose(self, asked: Asked) -> Configuration:
        """A configuration, each dimension chosen by ``asked`` where it plays a part."""
        chosen = self.actions[_ask(asked, ACTIONS, tuple(self.actions))]
        made = tuple(self._argued(action, asked) for action in chosen)
        settings = {name: _ask(asked, name, choices) for name, choices in self.settings.items()}
        return Configuration(made, settings)

    def _argued(self, action: Action, asked: Asked) -> Action:
        mine = {
            name.partition(".")[2]: _ask(asked, name, choices)
            for name, choices in self.arguments.items()
            if name.partition(".")[0] == action.name
        }
        return Action(action.name, {**action.arguments, **mine})

    def labels(self) -> dict[str, list[Any]]:
        """The choices of each dimension, as they are asked for."""
        named = {k: _labels(v) for k, v in {**self.arguments, **self.settings}.items()}
        return {ACTIONS: list(self.actions), **named}

    def walk(
        self, chance: random.Random | None = None
    ) -> Iterator[tuple[dict[str, Any], Configuration]]:
        """Every configuration once, with the answers that lead to it; by chance, where given.

        A space of very many is not walked through: as many as ``MANY`` are drawn from it.
        """
        names = self.labels()
        if chance is not None and math.prod(map(len, names.values())) > MANY:
            every = [tuple(map(chance.choice, names.values())) for _ in range(MANY)]
        else:
            every = list(itertools.product(*names.values()))
            if chance is not None:
                chance.shuffle(every)
        seen = set()
        for choice in every:
            answers = dict(zip(names, choice, strict=True))
            made = self.choose(_Given(answers))
            if made.key not in seen:
                seen.add(made.key)
                yield answers, made


@dataclass(frozen=True)
class _Given:
    """Choices made beforehand."""

    values: Mapping[str, Any]

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The choice for ``name``."""
        return choices[choices.index(self.values[name])]


def _ask(asked: Asked, name: str, choices: tuple[Any, ...]) -> Any:
    """Ask by labels, which every storage can keep, and give the choice itself."""
    labels = _labels(choices)
    return choices[labels.index(asked.suggest_categorical(name, labels))]


def _labels(choices: Sequence[Any]) -> list[Any]:
    return [_label(choice) for choice in choices]


def _label(choice: Any) -> Any:
    plain = choice is None or isinstance(choice, bool | int | float | str)
    return choice if plain else json.dumps(to_plain(choice))


def space(over: Mapping[str, Any]) -> Space:
    """Read what the user wrote.

    Args:
        over: ``actions`` -> lists of actions, each a name, an ``Action``, several of them in a
            tuple, or None; ``ACTION.ARGUMENT`` -> values; a setting of loading -> values.

    Raises:
        UnknownParameter: for a dimension or action that there is not, or one without choices.
    """
    for name, choices in over.items():
        if isinstance(choices, str) or not isinstance(choices, Sequence) or not choices:
            raise UnknownParameter(
                f"over[{name!r}] is {choices!r}: not a list of choices",
                hint=f"{{{name!r}: [a, b]}}",
            )
    read = [_chain(choice) for choice in over.get(ACTIONS, (None,))]
    actions = {" + ".join(map(told, chain)) or NOTHING: chain for chain in read}
    arguments = {k: tuple(v) for k, v in over.items() if "." in k}
    settings = {k: tuple(v) for k, v in over.items() if k != ACTIONS and "." not in k}
    used = {action.name for chain in read for action in chain}
    for name in (*arguments, *settings):
        known = name.partition(".")[0] in used if "." in name else name in SETTINGS
        if not known:
            raise UnknownParameter(
                f"over[{name!r}]: there is no such dimension here",
                hint=f"actions, ACTION.ARGUMENT of one of them, or {', '.join(SETTINGS)}",
            )
    return Space(actions, arguments, settings)


def _chain(choice: Any) -> tuple[Action, ...]:
    parts = choice if isinstance(choice, list | tuple) else () if choice is None else (choice,)
    made = tuple(part if isinstance(part, Action) else Action(str(part)) for part in parts)
    for action in made:
        if action.name not in KINDS:
            raise UnknownParameter(
                f"over['actions']: there is no action {action.name!r}",
                hint="one of " + ", ".join(KINDS),
            )
    return made


def told(action: Action) -> str:
    """An action as a call."""
    inside = ", ".join(f"{k}={v!r}" for k, v in action.arguments.items())
    return f"{action.name}({inside})" if inside else action.name
