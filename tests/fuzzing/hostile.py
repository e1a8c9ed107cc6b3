"""Packages that are meant to do harm, each made from a good one by a few lines."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coreml_lab.program import intake
from coreml_lab.program.mil.tools import proto
from tests.fuzzing.readers import model_file

MIL = proto.MIL_pb2
Attack = Callable[[Path], object]
# By name: what is done to a package, and a piece of what must be said about it.
ATTACKS: dict[str, tuple[Attack, str]] = {}
# Those that need some hundred megabytes to make.
LARGE: dict[str, tuple[Attack, str]] = {}


def attack(said: str, *, large: bool = False) -> Callable[[Attack], Attack]:
    """Add a function to the table."""

    def add(made: Attack) -> Attack:
        (LARGE if large else ATTACKS)[made.__name__] = made, said
        return made

    return add


def edited(package: Path, change: Callable[[Any], object]) -> None:
    """Change the parsed model of a package."""
    spec = proto.Model_pb2.Model()
    spec.ParseFromString(model_file(package).read_bytes())
    change(spec)
    model_file(package).write_bytes(spec.SerializeToString())


def block(spec: Any) -> Any:
    """The operations of its function."""
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset]


def first(spec: Any, kind: str) -> Any:
    """Its first operation of a kind."""
    return next(o for o in block(spec).operations if o.type == kind)


def root(package: Path, path: str) -> None:
    """Let the manifest name another file as the model."""
    told = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
    told["itemInfoEntries"][told["rootModelIdentifier"]]["path"] = path
    (package / "Manifest.json").write_text(json.dumps(told), encoding="utf-8")


def others(package: Path, path: str) -> None:
    """Let it name another folder of weights, where the usual one is not."""
    told = json.loads((package / "Manifest.json").read_text(encoding="utf-8"))
    for key, item in told["itemInfoEntries"].items():
        if key != told["rootModelIdentifier"]:
            item["path"] = path
    (package / "Manifest.json").write_text(json.dumps(told), encoding="utf-8")
    shutil.rmtree(weights(package).parent)


def weights(package: Path) -> Path:
    """Its file of weights."""
    return next(package.rglob("weight.bin"))


def linked(file: Path, to: str | Path) -> None:
    """Put a link in the place of a file."""
    file.unlink()
    file.symlink_to(to)


for name, made, said in (
    ("weights_that_are_a_link_out", lambda p: linked(weights(p), "/etc/hostname"), "outside"),
    ("weights_that_are_a_device", lambda p: linked(weights(p), "/dev/zero"), "outside"),
    ("a_model_that_is_a_link_out", lambda p: linked(model_file(p), "/etc/hostname"), "outside"),
    ("a_model_that_links_to_itself", lambda p: linked(model_file(p), "model.mlmodel"), "no file's"),
    ("a_manifest_with_a_whole_path", lambda p: root(p, "/etc/hostname"), "outside"),
    ("a_manifest_that_climbs", lambda p: root(p, "../../../etc/hostname"), "outside"),
    ("a_manifest_with_a_zero", lambda p: root(p, "a\0b"), "no file's name"),
    ("a_manifest_with_a_long_name", lambda p: root(p, "a" * 5000), "no file's name"),
    ("a_manifest_that_names_a_folder", lambda p: root(p, "."), "missing"),
    ("weights_by_a_whole_path", lambda p: others(p, "/etc"), "outside"),
    ("weights_with_a_zero", lambda p: others(p, "a\0b"), "no file's name"),
    ("weights_with_a_long_name", lambda p: others(p, "a" * 5000), "no file's name"),
):
    ATTACKS[name] = made, said


@attack("is no file")
def weights_that_are_a_pipe(package: Path) -> None:
    file = weights(package)
    file.unlink()
    os.mkfifo(file)


@attack("is no file")
def a_manifest_that_is_a_pipe(package: Path) -> None:
    (package / "Manifest.json").unlink()
    os.mkfifo(package / "Manifest.json")


@attack("Manifest.json is broken")
def a_manifest_that_is_nested_deeply(package: Path) -> None:
    (package / "Manifest.json").write_text("[" * 100_000, encoding="utf-8")


@attack("nearly all are holes")
def a_file_of_holes(package: Path) -> None:
    with (package / "Data" / "big.bin").open("wb") as file:
        file.truncate(1 << 40)


@attack("holds more than")
def very_many_files(package: Path) -> None:
    (package / "Data" / "more").mkdir()
    for i in range(intake.MOST_FILES + 1):
        (package / "Data" / "more" / str(i)).touch()


def kept(spec: Any) -> Any:
    """The first value that is kept in the file of weights."""
    for operation in block(spec).operations:
        if operation.attributes["val"].HasField("blobFileValue"):
            return operation.attributes["val"]
    raise AssertionError("it has no weights")


@attack("lies behind")
def weights_far_behind_the_end(package: Path) -> None:
    edited(package, lambda s: setattr(kept(s).blobFileValue, "offset", 2**64 - 64))


@attack("no data begin")
def weights_at_no_beginning(package: Path) -> None:
    edited(package, lambda s: setattr(kept(s).blobFileValue, "offset", 72))


@attack("are missing")
def weights_of_a_name_that_climbs(package: Path) -> None:
    name = "@model_path/weights/../../../../../etc/hostname"
    edited(package, lambda s: setattr(kept(s).blobFileValue, "fileName", name))


@attack("cannot be read")
def weights_of_a_name_that_is_a_folder(package: Path) -> None:
    edited(package, lambda s: setattr(kept(s).blobFileValue, "fileName", "weights/.."))


@attack("the file has")
def weights_of_any_length(package: Path) -> None:
    data = bytearray(weights(package).read_bytes())
    data[72:80] = (2**63).to_bytes(8, "little")
    weights(package).write_bytes(data)


@attack("its program reads")
def the_same_weights_very_often(package: Path) -> None:
    """One constant of 16 MB that is there forty times."""

    def change(spec: Any) -> None:
        size = 4 << 20
        entry = (0xDEADBEEF).to_bytes(4, "little") + (2).to_bytes(4, "little")
        entry += (4 * size).to_bytes(8, "little") + (128).to_bytes(8, "little") + bytes(40)
        head = (1).to_bytes(4, "little") + (2).to_bytes(4, "little") + bytes(56)
        weights(package).write_bytes(head + entry + bytes(4 * size))
        value = kept(spec)
        value.blobFileValue.offset = 64
        del value.type.tensorType.dimensions[1:]
        value.type.tensorType.dimensions[0].constant.size = size
        value.type.tensorType.rank = 1
        own = next(o for o in block(spec).operations if o.attributes["val"] == value)
        block(spec).operations.extend([own] * 40)

    edited(package, change)


@attack("cannot be read")
def sizes_of_more_than_64_bits(package: Path) -> None:
    def change(spec: Any) -> None:
        for each in spec.mlProgram.functions["main"].inputs:
            for size in each.type.tensorType.dimensions:
                size.constant.size = 2**63

    edited(package, change)


@attack("cannot be read")
def an_operation_that_reads_itself(package: Path) -> None:
    def change(spec: Any) -> None:
        relu = first(spec, "relu")
        relu.inputs["x"].arguments[0].name = relu.outputs[0].name

    edited(package, change)


@attack("cannot be read")
def a_block_that_reads_what_comes_later(package: Path) -> None:
    def change(spec: Any) -> None:
        condition = first(spec, "cond")
        inner = condition.blocks[0].operations[-1]
        inner.inputs["x"].arguments[0].name = block(spec).outputs[0]

    edited(package, change)


@attack("cannot be read")
def blocks_inside_of_blocks(package: Path) -> None:
    """Deeper than protobuf reads."""
    data = b""
    for _ in range(200):
        operation = b"\x22" + varint(len(data)) + data
        data = b"\x1a" + varint(len(operation)) + operation
    entry = b"\x12" + varint(len(data)) + data
    spec = proto.Model_pb2.Model()
    spec.ParseFromString(model_file(package).read_bytes())
    function = b"\x1a" + varint(len(entry)) + entry
    pair = b"\x0a\x04deep\x12" + varint(len(function)) + function
    program = b"\x12" + varint(len(pair)) + pair
    more = varint(502 << 3 | 2) + varint(len(program)) + program
    model_file(package).write_bytes(spec.SerializeToString() + more)


@attack("out of constants alone")
def a_constant_of_terabytes(package: Path) -> None:
    edited(package, lambda s: filled(s, [1 << 20, 1 << 20]))


@attack("out of constants alone")
def many_constants_of_megabytes(package: Path) -> None:
    edited(package, lambda s: [filled(s, [1 << 22]) for _ in range(20)])


@attack("axes")
def a_tensor_of_a_hundred_axes(package: Path) -> None:
    edited(package, lambda s: filled(s, [1] * 100))


def filled(spec: Any, shape: list[int]) -> None:
    """Add an operation that makes a tensor of that shape out of one number."""
    made = block(spec).operations.add(type="fill")
    sizes = made.inputs["shape"].arguments.add().value
    tensor(sizes, MIL.INT32, [len(shape)])
    sizes.immediateValue.tensor.ints.values.extend(shape)
    one = made.inputs["value"].arguments.add().value
    tensor(one, MIL.FLOAT32, [])
    one.immediateValue.tensor.floats.values.append(1)
    tensor(made.outputs.add(name=f"big_{len(block(spec).operations)}"), MIL.FLOAT32, shape)


def tensor(holder: Any, dtype: int, shape: list[int]) -> None:
    """Say that a value is a tensor."""
    kind = holder.type.tensorType
    kind.dataType, kind.rank = dtype, len(shape)
    for size in shape:
        kind.dimensions.add().constant.size = size


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    made = b""
    while number > 127:
        made += bytes([number & 127 | 128])
        number >>= 7
    return made + bytes([number])


def stuffed(package: Path, kind: int, field: bytes, count: int) -> None:
    """A model of some kind that holds ``field`` so many times."""
    body = field * count
    head = b"\x08\x08" + varint(kind << 3 | 2) + varint(len(body))
    model_file(package).write_bytes(head + body)


@attack("more than 100000 operations", large=True)
def a_million_operations(package: Path) -> None:
    spec = proto.Model_pb2.Model()
    spec.ParseFromString(model_file(package).read_bytes())
    relu = first(spec, "relu").SerializeToString()
    body = (b"\x1a" + varint(len(relu)) + relu) * 1_000_000
    # Model, program, the entry of a function, the function, the entry of its block, the block.
    for field in (2, 3, 2, 2, 502):
        body = varint(field << 3 | 2) + varint(len(body)) + body
    model_file(package).write_bytes(b"\x08\x08" + body)


@attack("more than 2500000 messages", large=True)
def twenty_million_empty_functions(package: Path) -> None:
    stuffed(package, 502, b"\x12\x00", 20_000_000)


@attack("more than 100000 operations", large=True)
def twenty_million_empty_layers(package: Path) -> None:
    stuffed(package, 500, b"\x0a\x00", 20_000_000)


@attack("more than 2500000 messages", large=True)
def ten_million_inputs(package: Path) -> None:
    stuffed(package, 2, b"\x0a\x00", 10_000_000)


@attack("more than 100000 operations")
def layers_just_below_what_is_counted(package: Path) -> None:
    stuffed(package, 500, b"\x0a\x00", 1_000_000)
