"""The dashboard for a Japanese reader: its own texts, and the sentences that the kernel writes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hosted import STATE, drawn, fill, tell, text

import coreml_lab as cl
from coreml_lab.widgets import about
from coreml_lab.widgets.compared import compared
from coreml_lab.widgets.desk import Desk

pytestmark = pytest.mark.browser

# Three words of English in a row: a sentence that nobody has translated.
ENGLISH = re.compile(r"[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}[^`]*")


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """What a kernel tells of a model: suggestions, one of them tried, strategies, a comparison."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((64, 3, 3, 3)).astype(np.float32)
    dense = rng.standard_normal((256, 64)).astype(np.float32)
    scale = np.full((1, 64, 1, 1), 0.5, np.float32)

    def net(x):
        features = cl.ops.mul(x=cl.ops.conv(x=x, weight=weight), y=scale)
        pooled = cl.ops.reduce_mean(x=features, axes=[2, 3])
        order = cl.ops.argsort(x=cl.ops.linear(x=pooled, weight=dense), axis=-1)
        return cl.ops.cumsum(x=cl.ops.cast(x=order, dtype="fp32"), axis=-1)

    model = cl.compile(net, x=cl.spec(1, 3, 32, 32), name="net")
    sent = []
    desk = Desk(Stage(model), lambda header, _: sent.append(json.loads(json.dumps(header))),
                folder=tmp_path_factory.mktemp("desk"))  # fmt: skip
    inputs = {"x": np.ones((1, 3, 32, 32), np.float32)}
    desk.recorded(cl.profile(model, inputs, runs=20, warmup=0))
    assert desk.drain()
    able = next(c["id"] for c in last(sent, "suggestions")["cards"] if c["can"])
    for what, arg in (("places", ""), ("try", able)):
        desk.heard({"k": "do", "v": 1, "what": what, "arg": arg})
        assert desk.drain()
    desk.close()
    found = compared(cl.compare(model, inputs, budget=4, progress=lambda *_: None), 1)
    return [last(sent, "suggestions"), last(sent, "strategy"), found], model


class Stage:
    """A dashboard that shows one model."""

    def __init__(self, model):
        self.model = model

    def show(self, model):
        self.model = model


def last(sent, kind):
    return next(header for header in reversed(sent) if header["k"] == kind)


def test_the_texts_of_the_views_are_japanese_for_a_japanese_reader(host):
    opened = fill(host(STATE, locale="ja-JP"))
    assert opened.get_by_role("tab").all_inner_texts()[0] == "ライブ"
    opened.get_by_role("tab", name="提案").click()
    assert opened.get_by_role("button", name="試す", exact=True).count() == 1
    opened.get_by_role("tab", name="ライブ").click()
    drawn(opened)
    assert text(opened, ".cml-st") == "実行中、セル [7]"
    said = "\n".join(opened.locator(".cml-live, .cml-colh, .cml-ft, .cml-ctl").all_inner_texts())
    for word in ("網掛け", "メモリ", "電力・エネルギー", "このカーネル", "欠落 0", "推定"):
        assert word in said
    # Names of the field stay as they are; our own English does not.
    for word in ("measured", "Pause", "dropped", "sample", "shaded", "large"):
        assert word not in said


@pytest.mark.filterwarnings("ignore")
def test_what_the_kernel_writes_is_japanese_too(host, messages, pictures):
    told, model = messages
    state = STATE | {"chips": about.chips(model, {}, "not an Apple chip")}
    opened = fill(host(state, locale="ja-JP"))
    for message in told:
        tell(opened, message)
    for name in ("提案", "方針", "比較"):
        opened.get_by_role("tab", name=name).first.click()
        panel = opened.locator("[role=tabpanel]:visible")
        assert ENGLISH.findall(panel.inner_text()) == []
        titles = panel.locator("title").all_text_contents()
        opened.locator("section.cml").screenshot(path=pictures / f"japanese-{name}.png")
        left = [title for title in titles if ENGLISH.search(title)]
        assert left == [], "\n".join(left)
    suggested = told[0]["cards"]
    assert len(suggested) > 3
    assert any(card["reasons"] for card in suggested)
    opened.get_by_role("tab", name="提案").first.click()
    assert "重みを int8 で格納する" in opened.locator(".cml-cards:visible").inner_text()
    chips = opened.locator(".cml-bd [role=listitem]")
    assert [
        c for c in chips.evaluate_all("all => all.map(c => c.ariaLabel)") if ENGLISH.search(c)
    ] == []
