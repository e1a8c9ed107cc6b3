"""Does the advisor find what is wrong, and is it silent where nothing is?

Models with one planted fault each, and for each a clean twin that differs in nothing else. Target:
every fault is found by the rule that is about it, and no clean twin gets a suggestion of high
confidence.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import coreml_lab as cl
from coreml_lab.explain.advisor import advise
from coreml_lab.explain.facts import facts
from coreml_lab.explain.placing import tables
from coreml_lab.explain.placing.estimate import estimate
from coreml_lab.explain.suggestion import HIGH, Seen
from coreml_lab.program import tracing
from coreml_lab.program.graph import Array, Dim, Graph
from coreml_lab.program.program import describe
from coreml_lab.records import PlanInfo, ProgramInfo, Recording, Run

CHIP = "M4"
MS = 1_000_000
SIZES = (1, 64, 128, 128)
Network = Callable[..., Any]


@dataclass(frozen=True)
class Fault:
    """A model with a fault, its clean twin, and the rule that has to see the difference."""

    title: str
    rule: str
    faulty: Callable[[], Seen]
    clean: Callable[[], Seen]


def weights(*shape: int) -> Array:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def seen(graph: Graph, info: ProgramInfo, runs: tuple[Run, ...] = ()) -> Seen:
    made = Recording({}, info, PlanInfo("portable", "coreml:0", "the model"), runs)
    return Seen(facts(made), graph, estimate(graph, info, tables.chip(CHIP), "ALL"), made)


def written(network: Network, *shape: Any) -> Seen:
    """As its author wrote it: no pass has been over it. Computed in fp16 throughout."""
    specs = {"x": cl.spec(*shape, dtype="fp16")}
    graph = tracing.bake(tracing.trace(network, specs, "coreml"))
    return seen(graph, describe(graph, name="net", key="", package="", function="", size=0))


def made(
    network: Network, *shape: Any, precision: str = "fp16", small: bool = True, **changes: Any
) -> Seen:
    """Compiled; its weights are stored as int8, as a clean model's are."""
    model = cl.compile(network, x=cl.spec(*shape), precision=precision)
    if small:
        model = cl.edit(model).apply("int8_weights", weight_threshold=64).model
    info = dataclasses.replace(model.info, **{k: v for k, v in changes.items() if k != "runs"})
    return seen(model.program.graph, info, changes.get("runs", ()))


def network(middle: Network | None = None, *, kernel: int = 3) -> Network:
    """A convolutional network with something in the middle."""
    first, second = weights(128, 64, kernel, kernel), weights(128, 128, 3, 3)

    def run(x: Any) -> Any:
        y = cl.ops.relu(cl.ops.conv(x, weight=first, pad_type="same"))
        y = y if middle is None else middle(y)
        y = cl.ops.relu(cl.ops.conv(y, weight=second, pad_type="same"))
        return cl.ops.reduce_mean(y, axes=[2, 3])

    return run


def half(*shape: int) -> Array:
    return weights(*shape).astype(np.float16)


def apart(x: Any) -> Any:
    """A layer norm written out in six operations."""
    centred = cl.ops.sub(x, cl.ops.reduce_mean(x, axes=[-1], keep_dims=True))
    spread = cl.ops.reduce_mean(cl.ops.square(centred), axes=[-1], keep_dims=True)
    return cl.ops.mul(centred, cl.ops.rsqrt(cl.ops.add(spread, np.float16(1e-3))))


def norm(x: Any) -> Any:
    return cl.ops.layer_norm(x, axes=[-1], epsilon=1e-3)


def scaled(x: Any) -> Any:
    y = cl.ops.conv(x, weight=half(8, 64, 3, 3), pad_type="same")
    return cl.ops.relu(cl.ops.mul(y, half(8, 1).reshape(1, 8, 1, 1)))


def plain(x: Any) -> Any:
    return cl.ops.relu(cl.ops.conv(x, weight=half(8, 64, 3, 3), pad_type="same"))


def turned(x: Any) -> Any:
    y = cl.ops.transpose(cl.ops.relu(x), perm=[0, 2, 1])
    return cl.ops.relu(cl.ops.transpose(y, perm=[0, 2, 1]))


def straight(x: Any) -> Any:
    return cl.ops.tanh(cl.ops.relu(x))


def tied(x: Any, *, shared: bool) -> Any:
    one = half(64, 64)
    other = one if shared else one.copy()
    return cl.ops.linear(cl.ops.relu(cl.ops.linear(x, weight=one)), weight=other)


def sequence(x: Any) -> Any:
    return cl.ops.relu(cl.ops.linear(x, weight=half(64, 64)))


def whole(y: Any) -> Any:
    return cl.ops.cast(cl.ops.add(cl.ops.cast(y, dtype="int32"), np.int32(1)), dtype="fp32")


def runs(count: int, took: int, pause: int) -> tuple[Run, ...]:
    return tuple(Run(i, i * (took + pause), took) for i in range(count))


def clean() -> Seen:
    return made(network(), *SIZES)


FAULTS = (
    Fault("fp32 arithmetic", "fp16", lambda: made(network(), *SIZES, precision="fp32"), clean),
    Fault("weights stored whole", "int8_weights",
          lambda: made(network(), *SIZES, small=False), clean),
    Fault("cumsum in the middle", "unsupported_operations",
          lambda: made(network(lambda y: cl.ops.cumsum(y, axis=2)), *SIZES), clean),
    Fault("integers in the middle", "whole_numbers", lambda: made(network(whole), *SIZES), clean),
    Fault("a kernel of 21", "beyond_its_limits", lambda: made(network(kernel=21), *SIZES), clean),
    Fault("a range of sizes", "one_shape",
          lambda: made(lambda x: cl.ops.relu(cl.ops.add(x, x)), Dim("n", 32, 64), 64, small=False),
          lambda: made(lambda x: cl.ops.relu(cl.ops.add(x, x)), 32, 64, small=False)),
    Fault("a last dimension of 1", "short_last_dimension",
          lambda: made(lambda x: cl.ops.relu(cl.ops.add(x, x)), 64, 1024, 1, small=False),
          lambda: made(lambda x: cl.ops.relu(cl.ops.add(x, x)), 64, 1024, small=False)),
    Fault("a scale after a convolution", "fold_into_convolutions",
          lambda: written(scaled, *SIZES), lambda: written(plain, *SIZES)),
    Fault("a norm written out", "operations_taken_apart",
          lambda: written(apart, 4, 64), lambda: written(norm, 4, 64)),
    Fault("transpositions undone", "layouts_undone",
          lambda: written(turned, 1, 64, 64), lambda: written(straight, 1, 64, 64)),
    Fault("equal weights twice", "equal_weights",
          lambda: written(lambda x: tied(x, shared=False), 1, 64),
          lambda: written(lambda x: tied(x, shared=True), 1, 64)),
    Fault("images of one column", "images_of_one_column",
          lambda: written(lambda x: cl.ops.relu(cl.ops.conv(x, weight=half(8, 64, 3, 1))),
                          1, 64, 128, 1),
          lambda: written(lambda x: cl.ops.relu(cl.ops.conv(x, weight=half(8, 64, 1, 3))),
                          1, 64, 1, 128)),
    Fault("a pad before a convolution", "pads_by_themselves",
          lambda: written(lambda x: plain(cl.ops.pad(x, pad=[1, 1, 1, 1], mode="constant",
                                                     constant_val=np.float16(0))), *SIZES),
          lambda: written(plain, *SIZES)),
    Fault("linear layers on a sequence", "linear_as_convolution",
          lambda: written(sequence, 1, 32, 64), lambda: written(sequence, 1, 64)),
    Fault("int4 by blocks", "blocks_off_the_engine",
          lambda: blocked(32), clean),
    Fault("short calls in a loop", "small_calls_in_a_loop",
          lambda: made(network(), *SIZES, runs=runs(200, MS // 5, MS // 100)),
          lambda: made(network(), *SIZES, runs=runs(200, 5 * MS, MS // 100))),
    Fault("pauses between calls", "pauses_between_calls",
          lambda: made(network(), *SIZES, runs=runs(50, MS, 300 * MS)),
          lambda: made(network(), *SIZES, runs=runs(50, 2 * MS, 3 * MS))),
    Fault("too large", "too_large_for_one_program",
          lambda: made(network(), *SIZES, size_bytes=1_500_000_000), clean),
)  # fmt: skip


def blocked(size: int) -> Seen:
    how = {"dtype": "int4", "granularity": "per_block", "block_size": size, "weight_threshold": 64}
    model = cl.compile(
        lambda x: cl.ops.linear(x, weight=weights(64, 64)), x=cl.spec(1, 64), precision="fp16"
    )
    model = cl.edit(model).apply("quantize_weights", **how).model
    return seen(model.program.graph, model.info)


def main() -> int:
    """Print a line per fault; 1 where one was missed or a clean twin accused."""
    missed = alarms = 0
    for fault in FAULTS:
        found = {s.rule for s in advise(fault.faulty())}
        twin = advise(fault.clean())
        false = sorted(
            {s.rule for s in twin if s.confidence == HIGH} | {fault.rule} & {s.rule for s in twin}
        )
        missed += fault.rule not in found
        alarms += bool(false)
        told = "found" if fault.rule in found else "MISSED"
        also = ", ".join(sorted(found - {fault.rule})) or "nothing else"
        print(f"{fault.title:<30} {told:<7} by {fault.rule} ({also})", flush=True)
        print(f"{'':<30} clean twin: {'FALSE ALARM ' + ', '.join(false) if false else 'silent'}")
    print(f"{len(FAULTS)} faults: {missed} missed, {alarms} false alarms")
    return int(bool(missed or alarms))


if __name__ == "__main__":
    sys.exit(main())
