"""Samples in columns: an hour of 40 metrics at 10 Hz takes 32 MB, and no object per reading."""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from coreml_lab.metrics import METRICS, Kind, Provenance
from coreml_lab.plain import NotPlain, from_plain

Array = np.ndarray[Any, np.dtype[Any]]

# The columns of a row: when, which metric, how it came to be (both as places in a list), what.
COLUMNS = {"t_ns": "<i8", "metric": "<u2", "how": "<u4", "value": "<f8"}
ROW_BYTES = sum(np.dtype(kind).itemsize for kind in COLUMNS.values())
# What a file may ask for: 14 hours of 40 metrics at 10 Hz, 440 MB.
MOST_ROWS = 20_000_000
CHUNK = 65_536
FAST = 1
# From certain to unknown.
CERTAINTY = tuple(Provenance)
# The note of a reading that is none: what counts goes on from another number after it.
SEAM = "two recordings were joined here"


@dataclass(frozen=True)
class Sample:
    """One reading of one metric; ``value`` is NaN where *unavailable*, and ``note`` says why."""

    t_ns: int
    metric: str
    value: float
    provenance: Provenance
    note: str = ""


How = tuple[Provenance, str]


class Samples(Sequence[Sample]):
    """A sequence of samples that keeps numpy columns; it never changes.

    Attributes:
        metrics: the names that occur, in the order of their first reading.
        hows: provenance and note that occur together.
        columns: ``t_ns``, ``metric`` and ``how`` (places in the above), ``value``; read-only.
    """

    __slots__ = ("columns", "hows", "metrics")

    def __init__(
        self, metrics: Iterable[str], hows: Iterable[How], columns: Mapping[str, Array]
    ) -> None:
        self.metrics = tuple(metrics)
        self.hows = tuple(hows)
        self.columns = dict(columns)
        for column in self.columns.values():
            column.flags.writeable = False

    @staticmethod
    def of(rows: Iterable[Sample]) -> Samples:
        """Samples from an iterable, in its order; one chunk at a time."""
        if isinstance(rows, Samples):
            return rows
        metrics: dict[str, int] = {}
        hows: dict[How, int] = {}
        pieces: dict[str, list[Array]] = {name: [np.empty(0, COLUMNS[name])] for name in COLUMNS}
        source = iter(rows)
        while chunk := [
            (
                s.t_ns,
                metrics.setdefault(s.metric, len(metrics)),
                hows.setdefault((s.provenance, s.note), len(hows)),
                s.value,
            )
            for s in itertools.islice(source, CHUNK)
        ]:
            for name, values in zip(COLUMNS, zip(*chunk, strict=True), strict=True):
                pieces[name].append(np.array(values, COLUMNS[name]))
        # One column after the other, so that there are never two copies of all.
        return Samples(metrics, hows, {name: np.concatenate(pieces.pop(name)) for name in COLUMNS})

    @staticmethod
    def joined(parts: Iterable[Samples]) -> Samples:
        """The rows of all parts, in order of time; rows of one moment keep their order."""
        metrics: dict[str, int] = {}
        hows: dict[How, int] = {}
        columns: dict[str, list[Array]] = {name: [np.empty(0, COLUMNS[name])] for name in COLUMNS}
        for part in parts:
            places = {"metric": _places(part.metrics, metrics), "how": _places(part.hows, hows)}
            for name, column in part.columns.items():
                moved = places[name][column] if name in places else column
                columns[name].append(moved.astype(COLUMNS[name], copy=False))
        if len(metrics) > np.iinfo(COLUMNS["metric"]).max:
            raise NotPlain(f"{len(metrics)} metrics are too many for one recording")
        whole = {name: np.concatenate(pieces) for name, pieces in columns.items()}
        order = np.argsort(whole["t_ns"], kind="stable")
        return Samples(metrics, hows, {name: column[order] for name, column in whole.items()})

    def of_metric(self, name: str) -> tuple[Array, Array]:
        """Times in nanoseconds and values of one metric, without those that are unavailable."""
        found = self._of(name) & np.isfinite(self.columns["value"])
        return self.columns["t_ns"][found], self.columns["value"][found]

    def readings(self, name: str) -> tuple[Array, Array]:
        """Values of one metric, NaN where unavailable, in order of time; which are seams."""
        found = self._of(name)
        order = np.argsort(self.columns["t_ns"][found], kind="stable")
        seams = np.array([note == SEAM for _, note in self.hows], bool)
        codes = self.columns["how"][found][order]
        return self.columns["value"][found][order], seams[codes]

    def weakest_how(self, name: str) -> How:
        """Provenance and note of the least certain readings of a metric that have a value.

        Raises:
            IndexError: where it has none.
        """
        codes = dict.fromkeys(self.codes_of(name)[::-1].tolist())  # of equals, the last one's
        if not codes:
            raise IndexError(f"no value of {name}")
        return max((self.hows[code] for code in codes), key=lambda how: CERTAINTY.index(how[0]))

    def last_how(self, name: str) -> How:
        """Provenance and note of the last reading of a metric that has a value.

        Raises:
            IndexError: where it has none.
        """
        return self.hows[self.codes_of(name)[-1]]

    def codes_of(self, name: str) -> Array:
        """Of each reading that ``of_metric`` gives, the place in ``hows``."""
        known = self._of(name) & np.isfinite(self.columns["value"])
        codes: Array = self.columns["how"][known]
        return codes

    def _of(self, name: str) -> Array:
        if name not in self.metrics:
            return np.zeros(len(self), bool)
        found: Array = self.columns["metric"] == self.metrics.index(name)
        return found

    def hows_of(self, name: str) -> tuple[How, ...]:
        """Every provenance and note that readings of one metric bear."""
        codes = self.columns["how"][self._of(name)]
        return tuple(self.hows[code] for code in np.unique(codes))

    def between(self, start_ns: int, end_ns: int) -> Samples:
        """The samples of a time span, both ends included."""
        t = self.columns["t_ns"]
        return self._taken((t >= start_ns) & (t <= end_ns))

    @property
    def nbytes(self) -> int:
        """Bytes of the columns."""
        return sum(column.nbytes for column in self.columns.values())

    def as_plain(self) -> dict[str, Any]:
        """The columns as JSON takes them: each shuffled bytewise, compressed and in base64."""
        return {
            "rows": len(self),
            "metrics": list(self.metrics),
            "hows": [[provenance.value, note] for provenance, note in self.hows],
            "columns": {name: _packed(self.columns[name]) for name in COLUMNS},
        }

    @staticmethod
    def of_plain(data: Any) -> Samples:
        """What ``as_plain`` wrote, or rows as schema 1 had them.

        Raises:
            NotPlain: where it is neither, or asks for more than ``MOST_ROWS``.
        """
        if isinstance(data, list):
            return Samples.of(from_plain(tuple[Sample, ...], data))
        told: _Told = from_plain(_Told, data)
        if not 0 <= told.rows <= MOST_ROWS:
            raise NotPlain(f"{told.rows} samples: at most {MOST_ROWS} are read")
        if told.columns.keys() != COLUMNS.keys():
            raise NotPlain(f"columns {', '.join(told.columns)[:80]}")
        columns = {name: _unpacked(name, told.columns[name], told.rows) for name in COLUMNS}
        for name, known in (("metric", told.metrics), ("how", told.hows)):
            if told.rows and int(columns[name].max()) >= len(known):
                raise NotPlain(f"column {name}: there are only {len(known)}")
        return Samples(told.metrics, told.hows, columns)

    def __len__(self) -> int:
        return len(self.columns["t_ns"])

    def __iter__(self) -> Iterator[Sample]:
        for start in range(0, len(self), CHUNK):
            yield from self._rows(slice(start, start + CHUNK))

    @overload
    def __getitem__(self, place: int) -> Sample: ...

    @overload
    def __getitem__(self, place: slice) -> Samples: ...

    def __getitem__(self, place: int | slice) -> Sample | Samples:
        if isinstance(place, slice):
            return self._taken(place)
        place = range(len(self))[place]
        return next(self._rows(slice(place, place + 1)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, tuple | list):
            other = Samples.of(other) if all(isinstance(row, Sample) for row in other) else None
        if not isinstance(other, Samples) or len(other) != len(self):
            return False
        mine, names = self.columns, {m: i for i, m in enumerate(self.metrics)}
        ways = {how: i for i, how in enumerate(self.hows)}
        # What is new to me gets a place that I do not use.
        there = {"metric": _places(other.metrics, names), "how": _places(other.hows, ways)}
        return (
            np.array_equal(mine["t_ns"], other.columns["t_ns"])
            and np.array_equal(mine["value"], other.columns["value"], equal_nan=True)
            and all(np.array_equal(mine[k], there[k][other.columns[k]]) for k in there)
        )

    def __hash__(self) -> int:
        # Not of the names: equal rows may have them in another order, and some that do not occur.
        return hash((len(self), *self.columns["t_ns"][:2].tolist()))

    def __repr__(self) -> str:
        return f"<{len(self)} samples of {len(self.metrics)} metrics>"

    def _taken(self, which: Any) -> Samples:
        columns = {n: np.ascontiguousarray(column[which]) for n, column in self.columns.items()}
        return Samples(self.metrics, self.hows, columns)

    def _rows(self, which: slice) -> Iterator[Sample]:
        lists = (self.columns[name][which].tolist() for name in COLUMNS)
        for t, metric, how, value in zip(*lists, strict=True):
            yield Sample(t, self.metrics[metric], value, *self.hows[how])


def merged(first: Samples, second: Samples) -> Samples:
    """Both in order of time, with a seam in each counter where one follows the other.

    What it grew by between the two is nobody's; where they overlap there is no such place.
    """
    shared = [name for name in second.metrics if name in first.metrics and _counts(name)]
    seams = [seam for name in shared for seam in _seams(name, first, second)]
    return Samples.joined((first, Samples.of(seams[::2]), second, Samples.of(seams[1::2])))


def _counts(name: str) -> bool:
    known = METRICS.get(name.partition("/")[0])
    return known is not None and known.kind is Kind.COUNTER


def _seams(name: str, first: Samples, second: Samples) -> tuple[Sample, ...]:
    """Before and after the readings of ``second``; none where ``first`` has some among them."""
    around, inside = first.of_metric(name)[0], second.of_metric(name)[0]
    if not len(around) or not len(inside):
        return ()
    ends = int(inside.min()), int(inside.max())
    if ((around > ends[0]) & (around < ends[1])).any():
        return ()
    return tuple(Sample(t, name, math.nan, Provenance.UNAVAILABLE, SEAM) for t in ends)


@dataclass(frozen=True)
class _Told:
    """What a file says of its samples."""

    rows: int
    metrics: tuple[str, ...]
    hows: tuple[tuple[Provenance, str], ...]
    columns: Mapping[str, str]


def _places(names: Sequence[Any], known: dict[Any, int]) -> Array:
    """Where each of ``names`` stands in ``known``, which learns those that are new."""
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)


def _packed(column: Array) -> str:
    # Bytes of one significance side by side compress better, and faster.
    planes = column.view(np.uint8).reshape(len(column), column.itemsize).T
    return base64.b64encode(zlib.compress(np.ascontiguousarray(planes).data, FAST)).decode()


def _unpacked(name: str, text: str, rows: int) -> Array:
    """A column of exactly ``rows``: what unpacks to more is refused before it does."""
    kind = np.dtype(COLUMNS[name])
    size = rows * kind.itemsize
    reader = zlib.decompressobj()
    try:
        data = reader.decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise NotPlain(f"column {name}: {error}") from error
    if len(data) != size or not reader.eof:
        raise NotPlain(f"column {name}: not {rows} values")
    planes = np.frombuffer(data, np.uint8).reshape(kind.itemsize, rows)
    return np.ascontiguousarray(planes.T).view(kind).reshape(rows)
