// What the page knows besides the stream: recordings, suggestions, strategy; and how it asks the kernel for something.

import { type Aims, type Compared, type Comparing, type Do, type Past, type Recorded, type Suggested, type Taping, VERSION } from "./messages";

const KEPT = 8;
/** The message with which the kernel answers a wish. */
const ANSWERS: Record<Do["what"], string> = {
  record: "recording", stop: "recording", save: "recording", open: "recording", try: "suggestions", halt: "suggestions", accept: "suggestions",
  undo: "suggestions", strategy: "strategy", places: "strategy", device: "strategy", compare: "comparing",
};

/** A recording with the blocks of a traced run: place in `ops`, start, duration. */
export interface Told extends Recorded {
  /** Of the last run. */
  spans: Float64Array;
  /** Of each run of `tracks`. */
  spansOf?: Float64Array[];
}

export class Desk {
  recordings: Told[] = [];
  suggested: Suggested | null = null;
  aims: Aims | null = null;
  taping: Taping | null = null;
  /** What cl.compare found, newest last. */
  compared: Compared[] = [];
  comparing: Comparing | null = null;
  /** A recording of the kernel that came to be replayed. */
  past: { header: Past; rows: Float64Array } | null = null;
  /** Wishes that the kernel has not answered yet. */
  waiting = new Set<string>();
  private readonly listeners = new Set<() => void>();

  constructor(private readonly send: (message: Do) => void) {}

  get last(): Told | null {
    return this.recordings[this.recordings.length - 1] ?? null;
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  changed(): void {
    for (const listener of [...this.listeners]) listener();
  }

  ask(what: Do["what"], arg: string | number = ""): void {
    this.waiting.add(ANSWERS[what]);
    this.send({ k: "do", v: VERSION, what, arg });
    this.changed();
  }

  /** Take a message; returns whether it was one of these. */
  accept(message: unknown, buffer: DataView | undefined): boolean {
    const told = message as Recorded | Past | Suggested | Aims | Taping | Compared | Comparing | null;
    if (!told || told.v !== VERSION) return false;
    switch (told.k) {
      case "recorded": this.record(told, numbers(buffer)); break;
      case "past": this.past = { header: told, rows: numbers(buffer) }; break;
      case "suggestions": this.suggested = told; break;
      case "strategy": this.aims = told; break;
      case "recording": this.taping = told; break;
      case "compared": this.compared = [...this.compared.filter((other) => other.id !== told.id), told].slice(-KEPT); break;
      case "comparing": this.comparing = told; break;
      default: return false;
    }
    this.waiting.delete(told.k === "past" ? "recording" : told.k);
    this.changed();
    return true;
  }

  /** A recording from a file: it has a number below zero, which none of the kernel's has. */
  add(told: Told): void {
    const id = Math.min(0, ...this.recordings.map((other) => other.id)) - 1;
    this.recordings = [{ ...told, id }, ...this.recordings].slice(0, KEPT);
    this.changed();
  }

  private record(told: Recorded, spans: Float64Array): void {
    let at = 0;
    const each = told.tracks.map(({ n }) => spans.subarray(at * 3, (at += n) * 3));
    const kept = { ...told, spans: each[0] ?? new Float64Array(0), spansOf: each };
    this.recordings = [...this.recordings.filter((other) => other.id !== told.id), kept].sort((a, b) => a.id - b.id).slice(-KEPT);
  }
}

/** The float64 of a buffer, which may start anywhere; a rest that fills none is left. */
function numbers(buffer: DataView | undefined): Float64Array {
  if (!buffer) return new Float64Array(0);
  const bytes = buffer.byteLength - (buffer.byteLength % 8);
  return new Float64Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + bytes) as ArrayBuffer);
}
