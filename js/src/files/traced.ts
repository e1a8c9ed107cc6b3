// The operations of a saved recording: medians over its traced runs, as the kernel's own rows have them.

import type { Told } from "../data/desk";
import type { OpRow, Recorded } from "../data/messages";
import { percentile, quantile } from "../data/quantile";
import { legible, list } from "./untrusted";

const SECOND = 1e9;
const MOST_OPS = 5_000;
/** Of all runs that are shown. */
const MOST_SPANS = 100_000;
const MOST_TRACKS = 20;

interface SavedSpan {
  node: string;
  op: string;
  engine: string;
  device: string;
  start_ns: number;
  duration_ns: number;
  bytes: number;
  provenance: string;
  fused?: string[];
  memory?: number | null;
}

export interface SavedRun {
  start_ns: number;
  duration_ns: number;
  instrumented?: boolean;
  spans?: SavedSpan[];
  incidents?: unknown;
}

/** What the kernel would have told of it; arithmetic and placement are not in the file. */
export function toldFrom(data: Record<string, unknown>, runs: SavedRun[], name: string): Told {
  const program = data["program"] as Record<string, unknown>;
  const plan = (data["plan"] ?? {}) as Record<string, unknown>;
  const traced = runs.filter((run) => run.instrumented);
  const plain = runs.filter((run) => !run.instrumented).map((run) => run.duration_ns / SECOND);
  const every = rows(traced, list(program["ops"]));
  const ops = every.slice(0, MOST_OPS);
  const shown = traced.slice(-MOST_TRACKS).reverse();
  const last = shown[0];
  const place = new Map(ops.map(({ key }, i) => [key, i]));
  const blocks = shown.map((run) => Float64Array.from(spansOf(run).slice(0, MOST_SPANS / shown.length).filter((span) => place.has(keyOf(span)))
    .flatMap((span) => [place.get(keyOf(span)) as number, (span.start_ns - run.start_ns) / SECOND, span.duration_ns / SECOND])));
  const header: Recorded = {
    k: "recorded", v: 1, id: 0, name, title: legible(plan["title"]), package: legible(program["precision"]), chip: "", runs: plain.length, traced: traced.length,
    n: (blocks[0]?.length ?? 0) / 3, length: last ? last.duration_ns / SECOND : 0, left_out: every.length - ops.length,
    tracks: shown.map((run, i) => ({ run: runs.indexOf(run), n: (blocks[i]?.length ?? 0) / 3, length: run.duration_ns / SECOND })), p50: quantile(plain, 0.5), p95: quantile(plain, 0.95),
    ops: ops.map(({ row }) => row), code: [], roofs: [],
  };
  return { ...header, spans: blocks[0] ?? new Float64Array(0), spansOf: blocks };
}

function spansOf(run: SavedRun): SavedSpan[] {
  return (list(run.spans) as unknown as SavedSpan[]).filter((span) => typeof span.node === "string" && Number.isFinite(span.start_ns) && Number.isFinite(span.duration_ns));
}

function keyOf(span: SavedSpan): string {
  return [span.node, span.op, span.engine, span.device, span.provenance].join("\n");
}

/** A row per operation, the longest first; what an engine took part in decides over which runs its median goes. */
function rows(traced: SavedRun[], infos: Record<string, unknown>[]): { key: string; row: OpRow }[] {
  const times = new Map<string, number[]>();
  const seen = new Map<string, SavedSpan>();
  const counts = new Map<string, number>();
  const engines = traced.map((run) => new Set(spansOf(run).map((span) => span.engine)));
  traced.forEach((run, index) => {
    counts.clear();
    for (const span of spansOf(run)) {
      const key = keyOf(span);
      seen.set(key, span);
      counts.set(key, (counts.get(key) ?? 0) + 1);
      const own = times.get(key) ?? new Array<number>(traced.length).fill(0);
      own[index] = (own[index] ?? 0) + span.duration_ns / SECOND;
      times.set(key, own);
    }
  });
  const medians = [...times].map(([key, own]) => {
    const engine = (seen.get(key) as SavedSpan).engine;
    return [key, percentile(own.filter((_, i) => engines[i]?.has(engine)).sort((a, b) => a - b), 0.5)] as const;
  });
  const total = medians.reduce((sum, [, time]) => sum + time, 0);
  const known = new Map(infos.map((info) => [String(info["name"]), info]));
  return medians.sort((a, b) => b[1] - a[1]).map(([key, time]) => ({ key, row: rowOf(seen.get(key) as SavedSpan, time, total, counts.get(key) ?? 0, known) }));
}

function rowOf(span: SavedSpan, time: number, total: number, count: number, known: Map<string, Record<string, unknown>>): OpRow {
  const info = known.get(span.node);
  const fused = Array.isArray(span.fused) ? span.fused.map(String) : [];
  const weights = [span.node, ...fused].reduce((sum, name) => sum + Number(known.get(name)?.["weight_bytes"] ?? 0), 0);
  return {
    node: legible(span.node), op: legible(span.op), engine: legible(span.engine), device: legible(span.device), time, share: total ? time / total : null, count,
    bytes: Number(span.bytes) || 0, weights, memory: typeof span.memory === "number" ? span.memory : null, flops: null, moved: null, provenance: legible(span.provenance),
    where: legible(info?.["where"] ?? ""), shape: Array.isArray(info?.["shape"]) ? info["shape"].map((size) => legible(size)).join(" × ") : "", dtype: legible(info?.["dtype"] ?? ""),
    fused: fused.map((name) => legible(known.get(name)?.["op"] ?? name)), placed: "", why: "",
  };
}
