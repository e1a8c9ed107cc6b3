"""An estimated placement as something to read: tables, notes, and a strip of devices."""

from __future__ import annotations

import base64
import html
from collections import defaultdict
from collections.abc import Iterator, Sequence

from coreml_lab.explain.page import Cell, Page, Table
from coreml_lab.explain.placing import calibration
from coreml_lab.explain.placing.beside import Beside
from coreml_lab.explain.placing.estimated import Change, Estimated, OpPlacement
from coreml_lab.explain.placing.reasons import Reason
from coreml_lab.explain.placing.tables import DEVICES, PLANNER_CHIP, TITLES, sources
from coreml_lab.explain.units import bare, others, show
from coreml_lab.metrics import Provenance, Quantity

TOP = 20
NAMED = 3
STRIP_WIDTH, STRIP_HEIGHT, STRIP_COLUMNS = 720, 16, 72
# The dashboard's colours of the three processors; the letters stand for them in text.
COLOURS = {"cpu": "#0072b2", "gpu": "#009e73", "ne": "#cc79a7"}
LETTERS = {"cpu": "c", "gpu": "G", "ne": "N"}


BASIS = (
    "All of this is estimated from tables of published findings; nothing ran on Apple hardware. "
    "Core ML decides on the device, by system version: measure there."
)
PLANNER = (
    f"Devices are chosen as the planner of an {PLANNER_CHIP} was found to choose between CPU and "
    "Neural Engine (751K); other chips and the GPU are assumed to be weighed alike."
)
SMALL = (
    "Nothing bars the program from the Neural Engine: it is so small that going there would cost "
    f"more than it gains (beginning and ending there are taken to cost {bare(0.00025, 's')})."
)
NO_GAIN = (
    "Nothing would be gained if one of the reasons, or all, were gone: what could run on the "
    "Neural Engine then is too little, or lies between what cannot."
)
WITHOUT = frozenset({"CPU_AND_GPU", "CPU_ONLY"})


def page(found: Estimated, native: Beside) -> Page:
    """Headline, tables and notes."""
    tables = (
        _devices(found), _stretches(found), _reasons(found), _changes(found.changes),
        _operations(found), _risks(found), _calibration(), *native.tables(),
    )  # fmt: skip
    return Page(headline(found), tuple(t for t in tables if t.rows), notes(found))


def headline(found: Estimated) -> str:
    """The whole in one sentence."""
    placed = found.placed
    count = sum(op.device == "ne" for op in placed)
    return (
        f"{found.program} on {found.chip.name}, estimated: {count} of {len(placed)} operations on "
        f"the Neural Engine, {_changes_of_device(len(found.transitions))}, {show(found.time)}"
    )


def _changes_of_device(count: int) -> str:
    return f"{count} change{'' if count == 1 else 's'} of device"


def _devices(found: Estimated) -> Table:
    rows: list[tuple[Cell, ...]] = []
    total = sum(found.busy.values())
    for device in DEVICES:
        count = sum(op.device == device for op in found.placed)
        busy = found.busy.get(device, 0.0)
        if count:
            rows.append((TITLES[device], str(count), _ratio(found.share(device)), _time(busy),
                         _ratio(busy / total if total else 0.0)))  # fmt: skip
    between = found.busy.get(calibration.OVERHEAD, 0.0)
    if between:
        rows.append(("changes of device", "", "", _time(between), _ratio(between / total)))
    rows.append(("all", str(len(found.placed)), "", found.time, ""))
    rows.append(("energy", "", "", found.energy, ""))
    columns = ("", "operations", "share of operations", "estimate", "share of time")
    return Table(f"Where operations would run ({found.compute_units})", columns, tuple(rows))


def _time(seconds: float) -> Quantity:
    return Quantity(seconds, "s", Provenance.ESTIMATED)


def _ratio(value: float) -> Quantity:
    return Quantity(value, "1", Provenance.ESTIMATED)


def _stretches(found: Estimated) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for i, stretch in enumerate(found.stretches[:TOP]):
        before = found.transitions[i - 1].cost if i else ""
        span = stretch.nodes[0] + (f" … {stretch.nodes[-1]}" if len(stretch.nodes) > 1 else "")
        rows.append((TITLES[stretch.device], str(len(stretch.nodes)), span, stretch.time,
                     stretch.overhead, before))  # fmt: skip
    if rest := found.stretches[TOP:]:
        rows.append((others(len(rest)), str(sum(len(s.nodes) for s in rest)), "", "", "", ""))
    columns = ("device", "operations", "from … to", "time", "to begin it", "change before it")
    return Table("Stretches, in the order in which they run", columns, tuple(rows))


def _reasons(found: Estimated) -> Table:
    groups: dict[Reason, list[OpPlacement]] = defaultdict(list)
    for op in found.ops:
        for reason in op.reasons:
            groups[reason].append(op)
    ordered = sorted(groups.items(), key=lambda pair: -len(pair[1]))
    rows = [_reason_row(reason, ops) for reason, ops in ordered]
    columns = ("why not", "operations", "types", "which", "what helps", "how sure")
    return Table("What cannot run on the Neural Engine, and why", columns, tuple(_cut(rows)))


def _reason_row(reason: Reason, ops: Sequence[OpPlacement]) -> tuple[Cell, ...]:
    types = list(dict.fromkeys(op.op for op in ops))
    return (reason.text, str(len(ops)), _some(types),
            _some([f"{o.node} ({o.where})" if o.where else o.node for o in ops]),
            reason.remedy or "nothing that is known", sure(reason))  # fmt: skip


def sure(reason: Reason) -> str:
    """How sure a reason is, and by whom: ``high (751K)``."""
    return f"{reason.confidence} ({', '.join(reason.sources) or 'no source'})"


def _some(names: Sequence[str]) -> str:
    more = f" and {others(len(names) - NAMED)}" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _cut(rows: Sequence[tuple[Cell, ...]]) -> list[tuple[Cell, ...]]:
    rest = rows[TOP:]
    if not rest:
        return list(rows)
    empty = ("",) * (len(rows[0]) - 1)
    return [*rows[:TOP], (others(len(rest)), *empty)]


def _changes(changes: Sequence[Change]) -> Table:
    rows = [_change_row(change) for change in changes if change.gain.value]
    columns = ("without this reason", "operations", "saves per inference", "changes of device then",
               "Neural Engine then", "how", "confidence")  # fmt: skip
    return Table("What would gain most", columns, tuple(_cut(rows)))


def _change_row(change: Change) -> tuple[Cell, ...]:
    name = change.kind if change.what == "program" else f"{change.kind} ({change.what})"
    numbers = (change.gain, str(change.transitions), _ratio(change.share))
    how = change.remedy or "nothing that is known"
    return (name, str(len(change.nodes)), *numbers, how, change.confidence)


def _operations(found: Estimated) -> Table:
    ordered = sorted(found.placed, key=lambda op: -op.time.value)
    rows: list[tuple[Cell, ...]] = [
        (op.node, op.op, TITLES[op.device], ", ".join(TITLES[d] for d in op.supported), op.time,
         why(op), op.where)
        for op in ordered
    ]  # fmt: skip
    columns = ("operation", "type", "would run on", "could run on", "time", "why", "where")
    return Table("Operations, the longest first", columns, tuple(_cut(rows)), bars=None)


def why(op: OpPlacement) -> str:
    """Why an operation is where it is, in a few words."""
    if op.reasons:
        return "; ".join(dict.fromkeys(reason.text for reason in op.reasons))
    if op.device == "ne" or not op.device:
        return ""
    return "could go there, but going there and back costs more than it gains"


def _risks(found: Estimated) -> Table:
    groups: dict[Reason, list[OpPlacement]] = defaultdict(list)
    for op in found.placed:
        for risk in _risky(op):
            groups[risk].append(op)
    rows: list[tuple[Cell, ...]] = [
        (risk.text, str(len(ops)), _some([op.node for op in ops]), risk.remedy, sure(risk))
        for risk, ops in sorted(groups.items(), key=lambda pair: -len(pair[1]))
    ]  # fmt: skip
    rows[:0] = [(r.text, "", "the program", r.remedy, sure(r)) for r in found.risks]
    columns = ("what", "operations", "which", "what helps", "how sure")
    return Table("What might keep operations from the Neural Engine, or slow there", columns,
                 tuple(_cut(rows)))  # fmt: skip


def _risky(op: OpPlacement) -> tuple[Reason, ...]:
    """What might keep an operation from where it is placed: elsewhere risks are none."""
    return op.risks if op.device == "ne" else ()


def _calibration() -> Table:
    rows: list[tuple[Cell, ...]] = []
    for found in calibration.calibration():
        energies, inside = calibration.energies(found.device)
        told = f"{inside} of {energies}" if energies else "none published"
        rows.append((TITLES[found.device], str(found.rows), _factor(found.typical),
                     _factor(found.covering), told))  # fmt: skip
    columns = ("device", "published times", "half are off by less than",
               "nine of ten by less than", "energies inside their range")  # fmt: skip
    return Table("How far off such estimates were", columns, tuple(rows))


def _factor(value: float) -> Quantity:
    return Quantity(value, "{ratio}", Provenance.ESTIMATED)


def notes(*every: Estimated) -> tuple[str, ...]:
    """What has to be known to read it, of one chip or several."""
    found = every[0]
    said = [BASIS, PLANNER, f"Energy is {found.energy.note}."]
    if found.assumed:
        sizes = ", ".join(f"{name} = {size}" for name, size in list(found.assumed.items())[:TOP])
        said.append(f"Flexible dimensions are taken as {sizes}.")
    if found.compute_units in WITHOUT:
        said.append(f"{found.compute_units} leaves the Neural Engine out.")
    elif not any(op.reasons or op.device == "ne" for each in every for op in each.placed):
        said.append(SMALL)
    if found.changes and not any(c.gain.value for each in every for c in each.changes):
        said.append(NO_GAIN)
    cited = sorted({key for each in every for key in _cited(each)})
    said += [f"{key}: {sources()[key].title} ({sources()[key].where})" for key in cited]
    return tuple(said)


def _cited(found: Estimated) -> set[str]:
    reasons = (r for op in found.placed for r in (*op.reasons, *_risky(op)))
    cited = {"751K"} | {key for reason in (*reasons, *found.risks) for key in reason.sources}
    return {key for key in cited if sources()[key].where}


def compared(found: Sequence[Estimated]) -> Page:
    """The same program on several chips."""
    rows = tuple(_chip_row(each) for each in found)
    columns = ("chip", "engine", "Neural Engine", "changes of device", "time", "energy",
               "not there because of")  # fmt: skip
    first = found[0]
    times = ", ".join(f"{each.chip.name} {show(each.time)}" for each in found)
    head = f"{first.program}, estimated: {times}"
    tables = (Table(f"Chips ({first.compute_units})", columns, rows), _by_chip(found))
    return Page(head, (*(t for t in tables if t.rows), _calibration()), notes(*found))


def _by_chip(found: Sequence[Estimated]) -> Table:
    """How many operations each kind of reason bars, per chip."""
    counts: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0] * len(found))
    for i, each in enumerate(found):
        for op in each.placed:
            for kind in {reason.kind for reason in op.reasons}:
                counts[kind, op.op][i] += 1
    ordered = sorted(counts.items(), key=lambda pair: -max(pair[1]))
    rows: list[tuple[Cell, ...]] = [
        (kind, op, *map(str, numbers)) for (kind, op), numbers in ordered
    ]
    columns = ("reason", "type", *(each.chip.name for each in found))
    caption = "Operations that cannot run on the Neural Engine, by chip"
    return Table(caption, columns, tuple(_cut(rows)))


def _chip_row(found: Estimated) -> tuple[Cell, ...]:
    kinds = dict.fromkeys(r.kind for op in found.placed for r in op.reasons)
    return (found.chip.name, found.chip.generation, _ratio(found.share("ne")),
            str(len(found.transitions)), found.time, found.energy,
            ", ".join(kinds) or "nothing")  # fmt: skip


def strip_text(found: Estimated) -> str:
    """The devices of the operations in a row of letters."""
    devices = [
        device for stretch in found.stretches for device in [stretch.device] * len(stretch.nodes)
    ]
    if not devices:
        return ""
    step = max(1, -(-len(devices) // STRIP_COLUMNS))
    letters = "".join(_letter(devices[i : i + step]) for i in range(0, len(devices), step))
    legend = ", ".join(f"{LETTERS[d]} {TITLES[d]}" for d in DEVICES if d in devices)
    each = "an operation" if step == 1 else f"{step} operations"
    return f"[{letters}]  {legend}; a letter is {each}"


def _letter(devices: Sequence[str]) -> str:
    """The most frequent device of several operations."""
    return LETTERS[max(dict.fromkeys(devices), key=devices.count)]


def strip_html(found: Estimated) -> str:
    """The same as a picture, with its words for who cannot see it; "" for an empty program."""
    total = sum(len(stretch.nodes) for stretch in found.stretches)
    if not total:
        return ""
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{STRIP_WIDTH}" height="{STRIP_HEIGHT}" '
        f'viewBox="0 0 {STRIP_WIDTH} {STRIP_HEIGHT}" shape-rendering="crispEdges">'
        + "".join(_rectangles(found, total))
        + "</svg>"
    )
    data = base64.b64encode(svg.encode()).decode()
    legend = " &nbsp; ".join(
        f'<span style="color:{COLOURS[d]}">&#9632;</span> {TITLES[d]}'
        for d in DEVICES
        if any(stretch.device == d for stretch in found.stretches)
    )
    return (
        f'<p><img alt="{html.escape(_told(found))}" style="max-width:100%" '
        f'src="data:image/svg+xml;base64,{data}"><br><small>{legend} (estimated)</small></p>'
    )


def _rectangles(found: Estimated, total: int) -> Iterator[str]:
    at = 0.0
    for stretch in found.stretches:
        width = STRIP_WIDTH * len(stretch.nodes) / total
        yield (
            f'<rect x="{at:.2f}" width="{max(width, 1):.2f}" height="{STRIP_HEIGHT}" '
            f'fill="{COLOURS[stretch.device]}"/>'
        )
        at += width


def _told(found: Estimated) -> str:
    parts = [f"{len(s.nodes)} on the {TITLES[s.device]}" for s in found.stretches[:TOP]]
    rest = len(found.stretches) - TOP
    return (
        "Operations in order: " + ", then ".join(parts) + (f", and {rest} more" if rest > 0 else "")
    )
