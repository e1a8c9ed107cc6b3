"""Both sides of the wire agree: the TypedDicts of Python and the interfaces of TypeScript."""

from __future__ import annotations

import re
from pathlib import Path
from typing import is_typeddict

import pytest

from coreml_lab.widgets import messages

SOURCE = Path(__file__).parents[2] / "js" / "src" / "messages.ts"


@pytest.fixture(scope="module")
def interfaces():
    if not SOURCE.is_file():
        pytest.skip("the TypeScript sources are not here")
    text = SOURCE.read_text()
    found = re.findall(r"export interface (\w+) \{\n(.*?)\n\}", text, re.DOTALL)
    return {name: re.findall(r"^  (\w+):", body, re.MULTILINE) for name, body in found}


def test_every_message_has_the_same_fields_on_both_sides(interfaces):
    ours = {
        name: list(value.__annotations__)
        for name, value in vars(messages).items()
        if is_typeddict(value) and value.__module__ == messages.__name__
    }
    assert ours == interfaces


def test_both_sides_speak_the_same_version():
    if not SOURCE.is_file():
        pytest.skip("the TypeScript sources are not here")
    assert f"export const VERSION = {messages.VERSION};" in SOURCE.read_text()
