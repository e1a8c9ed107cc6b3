"""Every reader of bytes that strangers make, as a function of bytes: what a fuzzer calls.

A reader returns, or raises what it says that it raises; anything else is a find.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb  # noqa: N813 - its own documentation's name
from coremltools.libmilstoragepython import _BlobStorageReader

import coreml_lab as cl
from coreml_lab.errors import LabError
from coreml_lab.program import archive, manifest
from coreml_lab.program.cache import Cache
from coreml_lab.program.classical import pipelines, stages
from coreml_lab.program.mil import blobs, budget, description, reader
from coreml_lab.program.mil.neural_network.translation import Translation, is_classic
from coreml_lab.program.mil.parser import parse
from coreml_lab.program.mil.tools import LOCK, proto, quiet, types_forgotten
from coreml_lab.program.program import Program
from coreml_lab.records import Recording
from tests.fuzzing import mutation
from tests.support.classic import add_layer, array_type, weights
from tests.support.packages import compiled, save

HERE = Path(__file__).parent
ROOT = HERE.parent
MEMORY = Path("/dev/shm")  # a folder in memory, where there is one


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        seeds: well-formed inputs, which it must take.
        read: hands it bytes.
        mutate: damage that knows the form.
        refusals: what it raises for input that it refuses.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], Any]
    mutate: mutation.Mutate
    refusals: tuple[type[Exception], ...] = (LabError,)

    def refused(self, data: bytes) -> str:
        """What it says to these bytes; empty where it takes them."""
        try:
            self.read(data)
        except self.refusals as error:
            if isinstance(error, LabError) and not error.hint:
                raise AssertionError("an error without a hint") from error
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
        return ""


@functools.cache
def place() -> Path:
    """A folder for what readers want as files, gone when the process ends."""
    folder = tempfile.TemporaryDirectory(
        prefix="fuzzing-", dir=MEMORY if MEMORY.is_dir() else None, ignore_cleanup_errors=True
    )
    _open.enter_context(folder)
    return Path(folder.name)


_open = contextlib.ExitStack()


@functools.cache
def package() -> Path:
    """An ML Program of a few operations, with weights in a file of their own and a condition."""
    kernel = np.linspace(-1, 1, 4 * 4 * 3 * 3, dtype=np.float32).reshape(4, 4, 3, 3)

    def network(x: Any) -> Any:
        y = mb.relu(x=mb.conv(x=x, weight=kernel, pad_type="same"))
        least = mb.reduce_min(x=y, axes=[0, 1, 2, 3], keep_dims=False)
        y = mb.cond(
            pred=mb.less(x=least, y=1.0),
            _true_fn=lambda: mb.add(x=y, y=1.0),
            _false_fn=lambda: mb.mul(x=y, y=2.0),
        )
        return mb.reshape(x=y, shape=[1, 4, 64], name="y")

    return save(
        place() / "net.mlpackage", network, [ct.TensorType("x", shape=(1, 4, 8, 8))], (1, 4, 8, 8)
    )


@functools.cache
def flexible() -> Path:
    """An ML Program with an image of several sizes."""
    sizes = ct.EnumeratedShapes(shapes=[(1, 3, 8, 8), (1, 3, 16, 16)], default=(1, 3, 8, 8))
    image = ct.ImageType("x", shape=sizes, color_layout=ct.colorlayout.RGB)
    side = ct.converters.mil.mil.get_new_symbol

    def network(x: Any) -> Any:
        return mb.max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid", name="y")

    return save(place() / "flexible.mlpackage", network, [image], (1, 3, side(), side()))


def model_file(folder: Path) -> Path:
    """The file of the model inside a package."""
    return next(folder.rglob("*.mlmodel"))


@functools.cache
def _copy(source: Path, name: str) -> Path:
    """A package that may be damaged."""
    return Path(shutil.copytree(source, place() / name))


def _program(data: bytes) -> None:
    copy = _copy(package(), "program.mlpackage")
    model_file(copy).write_bytes(data)
    spec, folder = reader.open_spec(copy)
    description.describe(copy, spec, None)
    if spec.WhichOneof("Type") == "mlProgram":
        # As mil.read does, but for the collection of garbage, which takes longest.
        with LOCK, types_forgotten():
            reader._graph(copy, spec, folder, None)


@functools.cache
def _kept() -> list[Any]:
    """The values of the model that lie in its file of weights."""
    spec, _ = reader.open_spec(package())
    function = spec.mlProgram.functions["main"]
    block = function.block_specializations[function.opset]
    return [v for v in blobs.values(block) if v.WhichOneof("value") == "blobFileValue"]


def _weights(data: bytes) -> None:
    """Our own look at them, and then coremltools' reader at what passed."""
    (place() / "weight.bin").write_bytes(data)
    blobs.check("net", iter(_kept()), place())
    theirs = _BlobStorageReader(str(place() / "weight.bin"))
    for value in _kept():
        found = theirs.read_float_data(value.blobFileValue.offset)
        wanted = [d.constant.size for d in value.type.tensorType.dimensions]
        assert found.size == np.prod(wanted)
        found.tobytes()  # all of it is there


def _manifest(data: bytes) -> None:
    copy = _copy(package(), "manifest.mlpackage")
    (copy / "Manifest.json").write_bytes(data)
    reader.open_spec(copy)


@functools.cache
def _folder(name: str) -> Path:
    return compiled(package(), place() / name)


def _metadata(data: bytes) -> None:
    (_folder("metadata") / "metadata.json").write_bytes(data)
    reader.open_compiled(_folder("metadata"))


def _texts() -> list[bytes]:
    folders = _folder("texts"), compiled(flexible(), place() / "texts_too")
    return [(folder / "model.mil").read_bytes() for folder in folders]


def _network(data: bytes) -> None:
    file = place() / "network.mlmodel"
    file.write_bytes(data)
    spec, _ = reader.open_spec(file)
    if is_classic(spec):
        reader.reset_symbols()
        with quiet(), budget.bounded(), np.errstate(all="ignore"), types_forgotten():
            Translation(file.name, spec).function()


_loads = itertools.count(1)


def _load(data: bytes) -> None:
    """All of ``load``: read, lowered, opened by the engine, and kept in a cache of its own."""
    copy = _copy(package(), "load.mlpackage")
    model_file(copy).write_bytes(data)
    _loaded(copy)


def _load_network(data: bytes) -> None:
    file = place() / "load.mlmodel"
    file.write_bytes(data)
    _loaded(file)


def _loaded(path: Path) -> None:
    cl.configure(cache_dir=place() / "cache")
    if next(_loads) % 100 == 0:
        cl.cache().clear()
    cl.load(path, engine="portable")
    assert not list((place() / "cache").glob(".part-*"))


def _networks() -> list[bytes]:
    made = []
    for mapping, shape in ((1, [1, 2, 6, 6]), (0, [2, 6, 6])):
        spec = proto.Model_pb2.Model(specificationVersion=4)
        network = spec.neuralNetwork
        network.arrayInputShapeMapping = mapping
        array_type(spec.description.input.add(name="x"), shape)
        array_type(spec.description.output.add(name="y"), [])
        kernel = {"outputChannels": 3, "kernelChannels": 2, "kernelSize": [3, 3], "hasBias": True}
        kernel |= {"weights": weights(np.ones(54)), "bias": weights(np.ones(3)), "nGroups": 1}
        add_layer(network, "convolution", kernel | {"same": {}}, ["x"], ["a"])
        add_layer(network, "activation", {"leakyReLU": {"alpha": 0.5}}, ["a"], ["b"])
        pool = {"type": "MAX", "kernelSize": [2, 2], "stride": [2, 2], "valid": {}}
        add_layer(network, "pooling", pool, ["b"], ["c"])
        add_layer(network, "flatten", {}, ["c"], ["d"])
        add_layer(network, "softmax", {}, ["d"], ["y"])
        made.append(spec.SerializeToString())
    return made


def _classical_seeds() -> list[bytes]:
    """Every hand-made classical model, and a pipeline of some."""
    from tests.program.classical.test_models import CASES

    made = proto.Model_pb2.Model(specificationVersion=4)
    made.description.CopyFrom(CASES[0].spec.description)
    made.pipeline.models.extend([CASES[0].spec])
    return [c.spec.SerializeToString() for c in CASES] + [made.SerializeToString()]


def _classical(data: bytes) -> None:
    """A classical model, or a pipeline of some."""
    file = place() / "classical.mlmodel"
    file.write_bytes(data)
    spec, _ = reader.open_spec(file)
    if pipelines.is_pipeline(spec):
        pipelines.read(file.name, spec, stages.read)
    elif stages.is_classical(spec.WhichOneof("Type") or ""):
        stages.read(file.name, spec)


def _entry_seed() -> bytes:
    files = {"model.mlpackage/Manifest.json": ("0" * 64, 617), "program.json": ("1" * 64, 3)}
    return manifest.Manifest(files, "net", "0123abcd").text().encode()


def _description_seed() -> bytes:
    from coreml_lab.run import reading

    program = reading.read(package(), None, "key", "net")
    program.save(place())
    return (place() / "program.json").read_bytes()


def _description(data: bytes) -> None:
    (place() / "program.json").write_bytes(data)
    Program.open(place(), package(), "net")


def _archive_seed() -> bytes:
    def fill(folder: Path) -> None:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("some text", encoding="utf-8")
        (folder / "b.bin").write_bytes(bytes(100))

    store = Cache(place() / "store")
    store.put("0123abcd", fill, title="net")
    file = place() / "entry.zip"
    file.unlink(missing_ok=True)
    return store.export("0123abcd", file).read_bytes()


def _archive(data: bytes) -> None:
    file = place() / "taken.zip"
    file.write_bytes(data)
    found = archive.inside(file, 1 << 20)
    with tempfile.TemporaryDirectory(dir=place()) as folder:
        inner = Path(folder, "inner")
        inner.mkdir()
        archive.unpack(file, found, inner)
        assert [p.name for p in Path(folder).iterdir()] == ["inner"]


def _recordings() -> list[bytes]:
    made = []
    for file in sorted((ROOT / "data").glob("recording_schema_*.json")):
        told = json.loads(file.read_bytes())
        # Each kind of thing stays; of many alike a few do.
        told["runs"] = told["runs"][:3]
        told["program"]["ops"] = told["program"]["ops"][:5]
        made.append(json.dumps(told).encode())
    return made


def _recording(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:  # load() says so before it reads
        raise LabError(str(error), hint="check the path") from error
    found = Recording.from_json(text)
    assert Recording.from_json(found.to_json()).to_json() == found.to_json()


MODEL = proto.Model_pb2.Model
READERS = {
    each.name: each
    for each in (
        Reader(
            "program",
            lambda: [model_file(p).read_bytes() for p in (package(), flexible())],
            _program,
            mutation.messages(MODEL),
        ),
        Reader(
            "load", lambda: [model_file(package()).read_bytes()], _load, mutation.messages(MODEL)
        ),
        Reader("load_network", _networks, _load_network, mutation.messages(MODEL)),
        Reader("classical", _classical_seeds, _classical, mutation.messages(MODEL)),
        Reader("network", _networks, _network, mutation.messages(MODEL)),
        Reader(
            "weights",
            lambda: [next(package().rglob("weight.bin")).read_bytes()],
            _weights,
            mutation.chunks,
        ),
        Reader("text", _texts, lambda data: parse(_decoded(data), "net: model.mil"), mutation.text),
        Reader(
            "metadata",
            lambda: [(_folder("metadata_seed") / "metadata.json").read_bytes()],
            _metadata,
            mutation.told,
        ),
        Reader(
            "manifest",
            lambda: [(package() / "Manifest.json").read_bytes()],
            _manifest,
            mutation.told,
        ),
        Reader("recording", _recordings, _recording, mutation.told),
        Reader("entry", lambda: [_entry_seed()], manifest.parse, mutation.told, (ValueError,)),
        Reader("description", lambda: [_description_seed()], _description, mutation.told),
        Reader("archive", lambda: [_archive_seed()], _archive, mutation.chunks),
    )
}


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace")
