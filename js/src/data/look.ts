// What the read-outs read: the newest row, the row under the cursor, and the state.

import type { CellEvent, Column } from "./messages";
import { integral } from "./slice";
import type { Store } from "./store";

/** Seconds between two evaluations of an integral over a running cell. */
const ENERGY_EVERY = 0.5;

export class Look {
  /** Kernel time at the right edge, and under the cursor (the same without one). */
  constructor(
    readonly store: Store,
    readonly now: number,
    readonly cursor: number | null,
    private readonly memo: Map<string, { t: number; value: number }>,
  ) {}

  /** The newest value of a metric that is not after the right edge. */
  latest(name: string): number {
    return this.value(name, this.now, Infinity);
  }

  /** The value under the cursor; without a cursor the newest. NaN where nothing was sampled. */
  at(name: string): number {
    if (this.cursor === null) return this.latest(name);
    return this.value(name, this.cursor, this.store.gapLimit);
  }

  /** The same without a cursor. */
  get newest(): Look {
    return this.cursor === null ? this : new Look(this.store, this.now, null, this.memo);
  }

  describe(name: string): Column | undefined {
    return this.store.schema.columns[this.store.column(name) - 1];
  }

  /** The cell under the cursor, else the one that runs, else the last one. */
  get cell(): CellEvent | undefined {
    const cells = this.store.cells;
    const t = this.cursor;
    const under = t === null ? undefined : cells.findLast((c) => c.t0 <= t && (c.t1 ?? Infinity) >= t);
    return under ?? this.store.state?.cell ?? cells[cells.length - 1];
  }

  /** Integral of a metric over a cell (joules of watts). */
  over(name: string, cell: CellEvent): number {
    const key = `${name} ${cell.id} ${cell.t1 === null ? "" : "done"}`;
    const known = this.memo.get(key);
    if (known && (cell.t1 !== null || Math.abs(this.now - known.t) < ENERGY_EVERY)) return known.value;
    const end = Math.min(cell.t1 ?? this.now, this.now);
    const value = integral(this.store.ring, this.store.column(name), cell.t0, end, this.store.gapLimit);
    // The last rows of a cell may still be on their way when its end is told.
    if (cell.t1 === null || this.store.newest > cell.t1) this.memo.set(key, { t: this.now, value });
    if (this.memo.size > 200) this.memo.clear();
    return value;
  }

  private value(name: string, t: number, limit: number): number {
    const column = this.store.column(name);
    const ring = this.store.ring;
    if (!column || !ring.length) return NaN;
    const after = ring.lower(t + 1e-9);
    const near = after < ring.length && limit < Infinity
      && (after === 0 || ring.time(after) - t < t - ring.time(after - 1)) ? after : after - 1;
    if (near < 0 || Math.abs(ring.time(near) - t) > limit) return NaN;
    const inGap = limit < Infinity && this.store.gaps.some((g) => g.t0 < t && t < g.t1);
    return inGap ? NaN : ring.value(near, column);
  }
}
