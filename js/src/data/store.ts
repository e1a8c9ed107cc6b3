// Everything a model has been told: rows, events, the state, and what was lost on the way.

import { decodeRows } from "./decode";
import type { CellEvent, Frame, IncidentEvent, Schema, State } from "./messages";
import { Level } from "./levels";
import { Ring } from "./ring";

export const HOUR = 36_000;
const EVENTS_KEPT = 1_000;
/** Sampling intervals without a row that make a gap. */
const GAP_INTERVALS = 2.5;
const OFFSETS_KEPT = 100;
/** Frames from which their rate is told: more of them in three seconds are no stream of a kernel. */
const ARRIVALS_KEPT = 1_000;
/** Seconds of the stretches whose least and greatest values are kept, for ten minutes and for an hour. */
const BUCKETS = [0.5, 4];
const HOUR_SECONDS = 3_600;

export interface Gap {
  t0: number;
  t1: number;
}

export class Store {
  ring: Ring;
  readonly levels: Level[];
  state: State | null = null;
  cells: CellEvent[] = [];
  incidents: IncidentEvent[] = [];
  gaps: Gap[] = [];
  /** Rows the kernel says it could not tell. */
  dropped = 0;
  /** Rows that were sent and never arrived here. */
  lost = 0;
  /** The connection to the kernel is gone. */
  gone = false;
  /** What is wrong with the frames, in words. */
  fault = "";
  /** Page time of the last frame, ms. */
  heard = NaN;
  /** Kernel time at which the last frame was sent. */
  sent = NaN;
  /** Announced seconds between frames. */
  every = 0.1;
  version = 0;
  /** How often everything was told anew. */
  begun = 0;
  /** What is said where a tape is played; null where a kernel streams. */
  replay: string | null = null;
  /** Tell the kernel that somebody looks. */
  beat: () => void = () => {};
  /** Moment of the tape. */
  replayAt = NaN;
  private readonly index = new Map<string, number>();
  private offsets: number[] = [];
  private arrivals: number[] = [];
  private readonly listeners = new Set<() => void>();

  constructor(public schema: Schema) {
    this.ring = new Ring(1 + schema.columns.length, HOUR);
    // Gaps cut stretches short: as many again as the hour has without any.
    this.levels = BUCKETS.map((bucket) => new Level(bucket, this.ring.width, Math.ceil((2 * HOUR_SECONDS) / bucket)));
    schema.columns.forEach((column, i) => this.index.set(column.name, i + 1));
  }

  get gapLimit(): number {
    return this.schema.interval * GAP_INTERVALS;
  }

  /** Place of a metric in the rows, or 0 where the schema lacks it. */
  column(name: string): number {
    return this.index.get(name) ?? 0;
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Tell everyone that something may look different. */
  changed(): void {
    this.version++;
    for (const listener of this.listeners) listener();
  }

  /** Forget every row and event: the tape begins again. */
  clear(): void {
    this.begun++;
    this.ring.reset(0);
    this.levels.forEach((level) => level.clear());
    this.cells = [];
    this.incidents = [];
    this.gaps = [];
    this.changed();
  }

  /** Take a frame that arrived at page time `at` (ms). */
  accept(frame: Frame, buffer: DataView | undefined, at: number): void {
    let rows: Float64Array;
    try {
      rows = decodeRows(frame, buffer, this.ring.width);
    } catch (error) {
      this.fault = String((error as Error).message);
      this.changed();
      return;
    }
    this.gone = false;
    this.fault = "";
    const known = Math.min(frame.n, Math.max(0, frame.k === "f" ? this.ring.next - frame.seq : 0));
    this.extend(rows.subarray(known * this.ring.width), this.place(frame));
    for (const event of frame.events) this.take(event);
    this.dropped = frame.dropped;
    this.state = frame.state;
    this.every = frame.every;
    this.time(frame, at);
    this.changed();
  }

  /** The kernel's time at page time `at` (ms), NaN before the first frame. */
  now(at: number): number {
    if (!this.offsets.length) return NaN;
    return at / 1000 - Math.min(...this.offsets);
  }

  /** Frames per second over the last three seconds. */
  rate(at: number): number {
    return this.arrivals.filter((t) => at - t <= 3000).length / 3;
  }

  /** Time of the newest row, NaN without one. */
  get newest(): number {
    return this.ring.length ? this.ring.time(this.ring.length - 1) : NaN;
  }

  /** Make the ring end where the frame begins; returns whether rows in between never arrived. */
  private place(frame: Frame): boolean {
    const ring = this.ring;
    if (frame.k === "h") {
      ring.reset(frame.seq);
      this.begun++;
      this.levels.forEach((level) => level.clear());
      this.gaps = [];
      this.cells = [];
      this.incidents = [];
      this.lost = 0;
    } else if (!ring.length) {
      ring.reset(frame.seq);
    } else if (frame.seq > ring.next) {
      this.lost += frame.seq - ring.next;
      ring.skip(frame.seq);
      return true;
    }
    return false;
  }

  private extend(rows: Float64Array, afterLoss: boolean): void {
    // Rows that were sampled and lost are no gap in the sampling: they are counted as dropped.
    let before = afterLoss ? NaN : this.newest;
    for (let i = 0; i < rows.length; i += this.ring.width) {
      const t = rows[i] as number;
      if (t - before > this.gapLimit) this.gaps.push({ t0: before, t1: t });
      before = t;
    }
    this.ring.push(rows);
    for (const level of this.levels) level.push(rows, this.gapLimit);
    const oldest = this.ring.length ? this.ring.time(0) : 0;
    while (this.gaps[0] && this.gaps[0].t1 < oldest) this.gaps.shift();
  }

  private take(event: CellEvent | IncidentEvent): void {
    const list: { id: number }[] = event.k === "cell" ? this.cells : this.incidents;
    const known = list.findLastIndex((other) => other.id === event.id);
    if (known >= 0) list[known] = event;
    else list.push(event);
    if (list.length > EVENTS_KEPT) list.shift();
  }

  private time(frame: Frame, at: number): void {
    // The least difference seen lately is the one with the least delay on the way.
    this.offsets.push(at / 1000 - frame.now);
    if (this.offsets.length > OFFSETS_KEPT) this.offsets.shift();
    this.arrivals.push(at);
    while (this.arrivals.length > ARRIVALS_KEPT || at - (this.arrivals[0] as number) > 10_000) this.arrivals.shift();
    this.heard = at;
    this.sent = frame.now;
  }
}
