"""Rules about the form of a program: what a converter left in, or took apart."""

from __future__ import annotations

from coreml_lab.explain.rules import patterns
from coreml_lab.explain.suggestion import MEDIUM, NE, Seen, Suggestion, rule
from coreml_lab.metrics import Quantity
from coreml_lab.program.graph import Node
from coreml_lab.records import Action

NAMED = 3
MEASURE = "only measuring can tell"


def _gain() -> Quantity:
    return Quantity.unavailable("s", MEASURE)


@rule
def fold_into_convolutions(seen: Seen) -> Suggestion | None:
    """Batch norms, scales and shifts that a convolution can take in."""
    if seen.graph is None:
        return None
    found = list(patterns.foldable(patterns.Wiring.of(seen.graph)))
    if not found:
        return None
    return Suggestion(
        rule="fold_into_convolutions",
        title="Fold scales into the layer before them",
        why="Scaling a result by constants is scaling the weights: one operation less per layer, "
        "and one pass over memory.",
        evidence=(
            (
                f"{len(found)} times, such as {found[0][1].op} {found[0][1].name} after "
                f"{found[0][0].name}."
            ),
        ),
        gain=_gain(),
        action=Action("clean"),
        nodes=tuple(after.name for _, after in found),
        sources=("CT-SRC", "751K"),
    )


@rule
def operations_taken_apart(seen: Seen) -> Suggestion | None:
    """Norms, gelus and attention written out in small operations."""
    if seen.graph is None:
        return None
    kinds = {
        "layer_norm": list(patterns.norms(seen.graph)),
        "gelu": list(patterns.gelus(seen.graph)),
        "scaled_dot_product_attention": list(patterns.attentions(patterns.Wiring.of(seen.graph))),
    }
    nodes = [n for found in kinds.values() for n in found]
    if not nodes:
        return None
    told = tuple(
        f"{len(found)} look like {kind}: {_names(found)}." for kind, found in kinds.items() if found
    )
    attention = bool(kinds["scaled_dot_product_attention"])
    return Suggestion(
        rule="operations_taken_apart",
        title="Keep norms, gelu and attention whole",
        why="Core ML's devices have them as one operation; written out they pass over memory many "
        "times, and may leave the Neural Engine.",
        evidence=told,
        gain=_gain(),
        advice="convert from PyTorch's own modules (LayerNorm, GELU, "
        "scaled_dot_product_attention); attention as one operation needs iOS18",
        nodes=tuple(n.name for n in nodes),
        sources=("APPLE-COREAI", "CT-SRC"),
        risk="gelu by table is off by up to 0.006 on the Neural Engine",
        since="iOS18" if attention else "",
    )


@rule
def layouts_undone(seen: Seen) -> Suggestion | None:
    """Transpositions and reshapes that follow one another."""
    if seen.graph is None:
        return None
    found = list(patterns.undone(seen.graph))
    if not found:
        return None
    return Suggestion(
        rule="layouts_undone",
        title="Merge transpositions and reshapes that follow one another",
        why="Each one copies the whole tensor.",
        evidence=(f"{len(found)} times, such as {found[0][1].name} after {found[0][0].name}.",),
        gain=_gain(),
        action=Action("clean"),
        nodes=tuple(after.name for _, after in found),
        sources=("CT-SRC", "APPLE-ANET", "751K"),
    )


@rule
def images_of_one_column(seen: Seen) -> Suggestion | None:
    """Convolutions over (length, 1), as PyTorch's converter writes layers over sequences."""
    if seen.graph is None:
        return None
    found = list(patterns.columns(seen.graph))
    if not found:
        return None
    return Suggestion(
        rule="images_of_one_column",
        title="Lay the long axis last",
        why="Rows are what kernels for CPUs work along, and what the Neural Engine fills up to 64 "
        "bytes: in rows of one number there is next to nothing to do, or mostly padding.",
        evidence=(f"{len(found)} convolutions are over one column: {_names(found)}.",),
        gain=_gain(),
        action=Action("long_axis_last"),
        nodes=tuple(n.name for n in found),
        sources=("APPLE-COREAI",),
    )


@rule
def pads_by_themselves(seen: Seen) -> Suggestion | None:
    """Zeros around an image that the convolution behind could add itself."""
    if seen.graph is None:
        return None
    found = list(patterns.padded(seen.graph))
    if not found:
        return None
    return Suggestion(
        rule="pads_by_themselves",
        title="Let convolutions fill up their inputs",
        why="A pad copies its whole input; a convolution leaves the zeros out.",
        evidence=(f"{len(found)} times, such as {found[0][0].name} before {found[0][1].name}.",),
        gain=_gain(),
        action=Action("fold_pads"),
        nodes=tuple(before.name for before, _ in found),
        confidence=MEDIUM,
        sources=("CT-SRC",),
    )


@rule
def linear_as_convolution(seen: Seen) -> Suggestion | None:
    """Linear layers over sequences, which the Neural Engine likes better as convolutions."""
    if seen.graph is None:
        return None
    found = [n for n in seen.graph.ops if n.op == "linear" and n.type.rank == 3]  # noqa: PLR2004 - a sequence
    if not found:
        return None
    return Suggestion(
        rule="linear_as_convolution",
        title="Write linear layers as convolutions",
        why="The Neural Engine is made for convolutions over (batch, channels, 1, length); others "
        "saw whole transformers run several times faster so.",
        evidence=(f"{len(found)} linear layers work on sequences: {_names(found)}.",),
        gain=Quantity.unavailable("s", "only a Mac can tell"),
        action=Action("linear_to_conv"),
        nodes=tuple(n.name for n in found),
        target=NE,
        confidence=MEDIUM,
        sources=("APPLE-ANET", "SMPANARO", "MADERIX"),
        risk="slower on the GPU, and on CPUs",
        verify="time on the Neural Engine, on a Mac or phone",
    )


@rule
def inputs_nobody_reads(seen: Seen) -> Suggestion | None:
    """Inputs that change nothing."""
    if seen.graph is None:
        return None
    named = [port.name for port in seen.facts.program.inputs]
    found = patterns.unread(seen.graph, named)
    if not found:
        return None
    return Suggestion(
        rule="inputs_nobody_reads",
        title="Leave out inputs that nothing reads",
        why="They are made, checked and copied for every prediction.",
        evidence=(f"No operation reads {', '.join(found)}.",),
        gain=_gain(),
        advice="take them out of the network before it is converted",
        nodes=tuple(found),
        sources=("CT-SRC",),
    )


def _names(nodes: list[Node]) -> str:
    rest = f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else ""
    return ", ".join(n.name for n in nodes[:NAMED]) + rest
