"""What each device holds for us and what went to and from it: a ledger that engines write to.

Writing is cheap and never waits for a lock: rows and what was let go are left in queues, and
added up when somebody reads, or when many have gathered.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from coreml_lab.program.graph import Array
from coreml_lab.run import forking
from coreml_lab.run.engine import Border

GATHERED = 1024


class Moved(NamedTuple):
    """Bytes that crossed a device's border, and in how many arrays.

    Attributes:
        sent: bytes copied to the device, of inputs.
        received: bytes copied back, of results.
        copies: arrays that were copied.
        shared: bytes that were not copied: both sides work in the same memory.
        shares: arrays that were not copied.
    """

    sent: int = 0
    received: int = 0
    copies: int = 0
    shared: int = 0
    shares: int = 0


class Account:
    """One device's page of the ledger."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._lock = forking.lock()
        self.rows: deque[Moved] = deque()
        self._gone: deque[int] = deque()
        self._held: dict[int, weakref.ref[Any]] = {}
        self._total = Moved()
        self._live = self._peak = 0
        self.untold = 0

    def moved(self, row: Moved) -> None:
        """Write down what crossed the border."""
        self.rows.append(row)
        if len(self.rows) > GATHERED:
            self.gather()

    def gather(self) -> None:
        """Add up what was written."""
        with self._lock:
            self._add_up()

    def hold(self, owner: object, size: int) -> None:
        """Count ``size`` bytes until ``owner`` goes; an owner counts once."""
        key = id(owner)

        def let_go(_: object) -> None:
            # It may be called in the middle of anything: no lock, and nothing is computed.
            self._held.pop(key, None)
            self._gone.append(size)

        with self._lock:
            if key in self._held:
                return
            self._held[key] = weakref.ref(owner, let_go)
            self._add_up()
            self._live += size
            self._peak = max(self._peak, self._live)

    def _add_up(self) -> None:
        while self._gone:
            self._live -= self._gone.popleft()
        # Runs of one program leave the same row again and again.
        for row, rows in groupby([self.rows.popleft() for _ in range(len(self.rows))]):
            times = sum(1 for _ in rows)
            self._total = Moved(*(t + times * n for t, n in zip(self._total, row, strict=True)))

    @property
    def live(self) -> int:
        """Bytes that are held now."""
        with self._lock:
            self._add_up()
            return self._live

    @property
    def peak(self) -> int:
        """The most that was held at once."""
        return self._peak

    @property
    def total(self) -> Moved:
        """Everything that crossed the border."""
        with self._lock:
            self._add_up()
            return self._total


class Ledger:
    """The accounts of all devices that were used."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    def account(self, device: str) -> Account:
        """The account of a device; a new one where it has none."""
        return self._accounts.get(device) or self._accounts.setdefault(device, Account(device))

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Every account, in the order of their first use."""
        return tuple(self._accounts.values())

    def tensor(self, array: Array, *, copied: bool | None) -> None:
        """A tensor's array in the CPU's memory: a copy, the memory it came in, or a result."""
        if copied is None or copied:  # other memory is somebody else's
            # The memory lives as long as its owner, which any view of it keeps.
            owner = array.base if isinstance(array.base, np.ndarray) else array
            self.account("cpu").hold(owner, owner.nbytes)
        if copied is not None:
            self.taken(array, copied=copied)

    def taken(self, array: Array, *, copied: bool) -> None:
        """Data that somebody gave, as an array: copied, or in the same memory."""
        size = array.nbytes
        row = Moved(sent=size, copies=1) if copied else Moved(shared=size, shares=1)
        self.account("cpu").moved(row)


LEDGER = Ledger()


class Meter:
    """Counts what a program's runs move, at next to no cost where its shapes are fixed."""

    def __init__(self, account: Account, border: Border | None, *, fixed: bool = False) -> None:
        self._account = account
        self._border = border
        self._fixed = fixed
        self._rows = account.rows
        self._shares = border is not None and not border.copies_inputs
        self._writes = border is not None and border.writes
        self._usual: Moved | None = None

    def count(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """One run."""
        row = self._usual
        if row is not None and not (self._shares and self._gaps(inputs.values())):
            rows = self._rows
            rows.append(row)
            if len(rows) > GATHERED:
                self._account.gather()
        elif self._border is None:
            self._account.untold += 1
        elif not self._border.counts:
            row = self._row(self._border, inputs, outputs)
            self._account.moved(row)
            self._usual = row if self._fixed and not self._gaps(inputs.values()) else self._usual

    def _gaps(self, inputs: Iterable[Array]) -> bool:
        """Whether an input is copied where others are not: gaps in memory, or not to be written."""
        for array in inputs:
            flags = array.flags
            if not flags.c_contiguous or (self._writes and not flags.writeable):
                return True
        return False

    def _row(
        self, border: Border, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> Moved:
        # One pass and no lists: models with flexible sizes have a row made for each run.
        sent = received = copies = shared = shares = 0
        for array in inputs.values():
            if border.copies_inputs or self._gaps((array,)):
                sent, copies = sent + array.nbytes, copies + 1
            else:
                shared, shares = shared + array.nbytes, shares + 1
        for array in outputs.values():
            if border.copies_outputs:
                received, copies = received + array.nbytes, copies + 1
            else:
                shared, shares = shared + array.nbytes, shares + 1
        return Moved(sent, received, copies, shared, shares)
