"""Both sides of the wire agree: the TypedDicts of Python and the interfaces of TypeScript."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import is_typeddict

import pytest

from coreml_lab.widgets import messages

SOURCE = Path(__file__).parents[2] / "js" / "src" / "data" / "messages.ts"


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


def test_the_page_knows_every_metric_as_the_kernel_does():
    script = SOURCE.parents[3] / "docs" / "dashboard_metrics.py"
    if not (script.is_file() and SOURCE.is_file()):
        pytest.skip("the TypeScript sources are not here")
    made = runpy.run_path(str(script))
    assert made["PLACE"].read_text() == made["text"](), "run: python docs/dashboard_metrics.py"


def test_both_sides_speak_the_same_version():
    if not SOURCE.is_file():
        pytest.skip("the TypeScript sources are not here")
    assert f"export const VERSION = {messages.VERSION};" in SOURCE.read_text()
