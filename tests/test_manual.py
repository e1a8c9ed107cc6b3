"""The manual is true: its Python runs and prints what it says, and it names everything there is.

In a page, ``python`` blocks run in order, in one namespace. A ``text`` block right after one is
what it prints, as in a doctest: "..." for what differs; numbers that bear a mark of provenance (●)
may. What cannot run says why in a comment before it, ``<!-- not run: needs a Mac -->``;
``<!-- first: ... -->`` runs unseen.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import coreml_lab as cl
from coreml_lab import cli, errors

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("README*.md"), *DOCS.rglob("*.md")])
BLOCK = re.compile(
    r"(?:<!-- first:\n(?P<first>.*?)-->)"
    r"|(?:<!-- not run: (?P<reason>[^\n]{8,}) -->\n+)?"
    r"^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<said>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
MEASURED = re.compile(r"[\d.]+(?: [^\s\[]+)?(?: \[[^\]]*\])? (?=[●≈])")
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """The modules of docs/ that write parts of the manual."""
    sys.path.insert(0, str(DOCS))
    import manual  # type: ignore[import-not-found]

    sys.path.remove(str(DOCS))
    yield manual
    for name in ("manual", "api", "messages"):
        sys.modules.pop(name, None)


def blocks(page: Path) -> Iterator[tuple[int, str, str | None]]:
    """Line, code and expected output of each block of a page that runs."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        if found["reason"] is None:
            code = found["first"] if found["code"] is None else found["code"]
            yield text.count("\n", 0, found.start()) + 1, code, found["said"]


def run(code: str, name: str, space: dict[str, Any]) -> str:
    """Run a block as a notebook would; what it prints, the value of its last line included."""
    tree = ast.parse(code)
    shown = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, name, "exec"), space)
        if shown is not None:
            value = eval(compile(ast.Expression(shown.value), name, "eval"), space)
            if value is not None:
                printed.write(f"{value!r}\n")
    return printed.getvalue()


# Their searches take minutes; tests/improve and the notebooks run what they show.
LONG = {"optimizing.md"}
WITH_CODE = [page for page in PAGES if page.name not in LONG and any(blocks(page))]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_code_of_a_page_runs_and_prints_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, Any] = {"__name__": "__main__"}
    for line, code, said in blocks(page):
        printed = run(code, f"{page.name}, line {line}", space)
        if said is not None:
            wanted, got = (MEASURED.sub("", text) for text in (said, printed))
            agree = doctest.OutputChecker().check_output(wanted, got, SAME)
            assert agree, f"{page.name}, line {line} prints:\n{printed}"


def test_the_reference_names_everything_public() -> None:
    named = set(re.findall(r"^(?::::|###) cl\.(\w+)$", (DOCS / "api.md").read_text(), re.MULTILINE))
    assert named == set(cl._PUBLIC)


def test_every_page_is_completed_from_the_code(scripts: Any) -> None:
    for page in DOCS.rglob("*.md"):
        name = str(page.relative_to(DOCS))
        text = scripts.completed(name, page.read_text(encoding="utf-8"))
        assert not re.search(r"^::: |<!-- (errors|changes|rows)|<others>", text, re.MULTILINE), name
    reference = scripts.completed("api.md", "::: cl.load\n")
    assert "path: str | Path" in reference
    assert "Source: `coreml_lab/run/compiler.py`" in reference
    assert "- `ModelError`: where the file is missing" in reference


def test_an_error_that_is_raised_stands_in_the_manual_with_its_hint(scripts: Any) -> None:
    told = scripts.completed("troubleshooting.md", "<!-- errors -->")
    assert all(f"### {kind}" in told for kind in vars(errors) if kind.endswith("Error"))
    with pytest.raises(errors.LabError) as caught:
        cl.merge({}, "x.mlpackage")
    assert caught.value.message in told
    assert caught.value.hint.split("{")[0][:20] in told


def test_the_diffs_that_contributors_are_shown_are_lines_of_the_code() -> None:
    diffs = re.findall(r"```diff\n(.*?)```", (DOCS / "contributing.md").read_text(), re.DOTALL)
    assert len(diffs) >= 5
    for line in "".join(diffs).splitlines():
        if line.startswith("+++ b/"):
            lines = (ROOT / line.removeprefix("+++ b/")).read_text(encoding="utf-8").splitlines()
        else:
            assert line.removeprefix("+") in lines, line


def test_a_case_study_quotes_the_rows_of_the_page_that_was_measured(scripts: Any) -> None:
    told = scripts.completed("cases.md", "<!-- rows: speed.md | resnet50 -->\n")
    rows = [row for row in told.splitlines() if row.startswith("| resnet50")]
    measured = (DOCS / "speed.md").read_text(encoding="utf-8")
    assert rows
    assert all(row in measured for row in rows)


def test_links_out_of_the_manual_lead_into_it_or_are_plain_text(scripts: Any) -> None:
    assert scripts.relinked("guide/x.md", "[a](../../CHANGELOG.md)") == "[a](../changelog.md)"
    assert scripts.relinked("x.md", "[a](../coreml_lab/cli.py), [b](y.md#z)") == "a, [b](y.md#z)"


def test_the_user_guide_has_every_verb_and_command() -> None:
    guide = "".join(p.read_text(encoding="utf-8") for p in (DOCS / "guide").glob("*.md"))
    # Types are met as what functions give; the reference has them.
    verbs = {name for name in cl._PUBLIC if not isinstance(getattr(cl, name), type)}
    assert not {name for name in verbs if f"cl.{name}" not in guide}
    assert not {name for name in cli.COMMANDS if f"coreml-lab {name}" not in guide}
