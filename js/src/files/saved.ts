// Recordings that Recording.save() wrote, read by the page alone: no kernel is asked.

import type { Told } from "../data/desk";
import { fromJson, type Tape } from "./files";
import { METRICS } from "../text/metrics";
import type { CellEvent, Column, IncidentEvent } from "../data/messages";
import { columnsOf, type Samples } from "./samples";
import { percentile } from "../data/quantile";
import { type SavedRun, toldFrom } from "./traced";
import { legible, list } from "./untrusted";

const FORMATS = [1, 2];
const SECOND = 1e9;
/** Rows that are kept: an hour at ten a second, as the live strips have. */
const MOST_ROWS = 36_000;
const EXECUTOR = ["coreml_lab.executor.throughput", "coreml_lab.executor.latency.p50", "coreml_lab.executor.latency.p95", "coreml_lab.executor.latency.p99"];
const ENOUGH_FOR_P99 = 100;

/** A file of the page's own or of Recording.save(). Throws where it is neither, with the reason. */
export async function openTape(text: string): Promise<Tape> {
  const data = JSON.parse(text) as Record<string, unknown> | null;
  if (typeof data !== "object" || data === null) throw new Error("another format");
  if ("format" in data) return fromJson(text);
  if (!FORMATS.includes(data["schema"] as number) || typeof data["program"] !== "object") throw new Error("another format");
  return fromRecording(data);
}

export async function fromRecording(data: Record<string, unknown>): Promise<Tape> {
  const runs = list(data["runs"]) as unknown as SavedRun[];
  if (!runs.every((run) => typeof run.start_ns === "number" && typeof run.duration_ns === "number")) throw new Error("no runs");
  const samples = await columnsOf(data["samples"]);
  const name = legible((data["program"] as Record<string, unknown>)["name"]);
  const columns: Column[] = [...samples.metrics.map((metric, i) => column(metric, ...lastHow(samples, i))), ...EXECUTOR.map((metric) => column(metric, "measured", "timed around each call"))];
  const rows = rowsOf(samples, runs, columns.length + 1);
  const events: (CellEvent | IncidentEvent)[] = [...regions(data["regions"]), ...incidents([...list(data["incidents"]), ...runs.flatMap((run) => list(run.incidents))])];
  return { name, schema: { id: 1, interval: interval(rows, columns.length + 1), columns }, rows, events, recorded: toldFrom(data, runs, name) as Told | null };
}

function column(name: string, provenance: string, note: string): Column {
  const [family, part] = name.split("/");
  const [label, unit, panel] = METRICS[family ?? ""] ?? [legible(name), "1", "other"];
  return { name, label: part ? `${label} ${legible(part)}` : label, unit, panel, provenance, note: legible(note, 400), help: "" };
}

/** How the last reading that has a value came to be; without any, why there is none. */
function lastHow(samples: Samples, metric: number): [provenance: string, note: string] {
  let how = -1;
  let valued = false;
  for (let i = 0; i < samples.rows; i++) {
    if (samples.metric[i] !== metric) continue;
    const has = Number.isFinite(samples.value[i]);
    if (has || !valued) how = samples.how[i] as number;
    valued ||= has;
  }
  return samples.hows[how] ?? ["unavailable", ""];
}

/** A row per reading of the metric that was read most often: the sampler's own pace. */
function rowsOf(samples: Samples, runs: SavedRun[], width: number): Float64Array {
  const counts = new Map<number, number>();
  for (let i = 0; i < samples.rows; i++) if (Number.isFinite(samples.value[i])) counts.set(samples.metric[i] as number, (counts.get(samples.metric[i] as number) ?? 0) + 1);
  const pace = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
  const every = new Set<number>();
  for (let i = 0; i < samples.rows; i++) if (samples.metric[i] === pace && Number.isFinite(samples.value[i])) every.add(samples.t[i] as number);
  const times = [...every].sort((a, b) => a - b).slice(-MOST_ROWS);
  const cut = every.size > times.length;
  const rows = new Float64Array(times.length * width).fill(NaN);
  times.forEach((t, i) => { rows[i * width] = t / SECOND; });
  for (let i = 0; i < samples.rows && times.length; i++) {
    const t = samples.t[i] as number;
    const value = samples.value[i] as number;
    if (!Number.isFinite(value) || (cut && t < (times[0] as number))) continue;
    // What another source read in between belongs to the row before it, or to the first.
    rows[Math.max(0, upper(times, t) - 1) * width + 1 + (samples.metric[i] as number)] = value;
  }
  throughput(rows, width, runs);
  return rows;
}

/** How many of `times` are not after `t`. */
function upper(times: number[], t: number): number {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((times[middle] as number) <= t) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Inferences of the second before each row, as the live strips count them. */
function throughput(rows: Float64Array, width: number, runs: SavedRun[]): void {
  const ends = runs.filter((run) => !run.instrumented).map((run) => [(run.start_ns + run.duration_ns) / SECOND, run.duration_ns / SECOND] as const).sort((a, b) => a[0] - b[0]);
  let [first, last] = [0, 0];
  for (let i = 0; i < rows.length; i += width) {
    const t = rows[i] as number;
    while (last < ends.length && (ends[last] as readonly number[])[0] as number <= t) last++;
    while (first < last && ((ends[first] as readonly number[])[0] as number) <= t - 1) first++;
    const took = ends.slice(first, last).map((end) => end[1]).sort((a, b) => a - b);
    const place = i + width - EXECUTOR.length;
    rows[place] = took.length;
    [0.5, 0.95, 0.99].forEach((share, k) => { rows[place + 1 + k] = took.length && (share < 0.99 || took.length >= ENOUGH_FOR_P99) ? percentile(took, share) : NaN; });
  }
}

function interval(rows: Float64Array, width: number): number {
  const steps: number[] = [];
  for (let i = width; i < rows.length; i += width) steps.push((rows[i] as number) - (rows[i - width] as number));
  return steps.length ? percentile(steps.sort((a, b) => a - b), 0.5) : 0.1;
}

function regions(value: unknown): CellEvent[] {
  return list(value).filter((region) => region["parent"] === null || region["parent"] === undefined).flatMap((region) => {
    const [start, length] = [Number(region["start_ns"]), Number(region["duration_ns"])];
    if (!Number.isFinite(start + length)) return [];
    return [{ k: "cell" as const, id: Number(region["index"]), n: null, src: legible(region["name"]), t0: start / SECOND, t1: (start + length) / SECOND, ok: true }];
  });
}

function incidents(found: Record<string, unknown>[]): IncidentEvent[] {
  return found.filter((each) => typeof each["t_ns"] === "number").map((each, id) => ({
    k: "incident", id, t: (each["t_ns"] as number) / SECOND, error: legible(each["error"]), message: legible(each["message"], 400),
    action: legible(each["action"], 400), outcome: legible(each["outcome"], 400),
  }));
}
