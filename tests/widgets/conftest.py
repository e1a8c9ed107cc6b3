"""Fixtures of the widget tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fakes import Bench, FakeShell


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def shell():
    return FakeShell()
