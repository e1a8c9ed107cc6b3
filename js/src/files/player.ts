// Plays a tape into a store of its own, at its own pace.

import type { Tape } from "./files";
import { VERSION, type State } from "../data/messages";
import { Store } from "../data/store";
import { t } from "../text/text";

const STEP = 100;

export class Player {
  readonly store: Store;
  speed = 1;
  playing = false;
  /** Moment of the tape, seconds of its clock. */
  private at: number;
  private sent = 0;
  private timer: ReturnType<typeof setInterval> | undefined;
  private readonly width: number;

  constructor(readonly tape: Tape) {
    this.width = tape.schema.columns.length + 1;
    this.store = new Store(tape.schema);
    this.at = this.first;
    this.told();
  }

  get first(): number { return this.tape.rows[0] ?? 0; }
  get last(): number { return this.tape.rows[this.tape.rows.length - this.width] ?? 0; }
  get ended(): boolean { return this.at >= this.last; }

  play(): void {
    if (this.playing) return;
    if (this.ended) this.rewind();
    this.playing = true;
    let before = performance.now();
    this.timer = setInterval(() => {
      const now = performance.now();
      this.forward(((now - before) / 1000) * this.speed);
      before = now;
    }, STEP);
    this.told();
  }

  hold(): void {
    clearInterval(this.timer);
    this.playing = false;
    this.told();
  }

  rewind(): void {
    this.at = this.first;
    this.sent = 0;
    this.store.clear();
    this.told();
  }

  /** Go on by so many seconds of the tape. */
  forward(seconds: number): void {
    this.at = Math.min(this.last, this.at + seconds);
    const from = this.sent;
    const { rows } = this.tape;
    const count = rows.length / this.width;
    while (this.sent < count && (rows[this.sent * this.width] as number) <= this.at) this.sent++;
    const fresh = rows.slice(from * this.width, this.sent * this.width);
    this.store.replayAt = this.at;
    // A cell of the tape is busy until its end, as it was then.
    const known = this.tape.events.filter((event) => (event.k === "cell" ? event.t0 : event.t) <= this.at)
      .map((event) => (event.k === "cell" && event.t1 !== null && event.t1 > this.at ? { ...event, t1: null } : event));
    this.store.accept({
      k: "f", v: VERSION, schema: this.tape.schema.id, seq: from, n: fresh.length / this.width, dropped: 0, now: this.at, every: STEP / 1000,
      events: known, state: this.state(),
    }, new DataView(fresh.buffer), performance.now());
    if (this.ended && this.playing) this.hold();
  }

  private state(): State {
    const open = this.tape.events.find((event) => event.k === "cell" && event.t0 <= this.at && (event.t1 ?? Infinity) > this.at);
    const cell = open?.k === "cell" ? open : null;
    return {
      busy: cell !== null, cell, runs: 0, incidents: this.tape.events.filter((event) => event.k === "incident" && event.t <= this.at).length,
      hits: 0, misses: 0, program: this.tape.name, scheduler: "", title: t("replay"),
    };
  }

  private told(): void {
    this.store.replay = this.ended && this.sent ? t("ended") : t("replaying", this.speed);
    this.store.replayAt = this.at;
    this.store.changed();
  }
}
