// What the page writes and reads as files: pure functions from a store to text and back.

import type { Told } from "../data/desk";
import type { CellEvent, IncidentEvent, Recorded, Schema } from "../data/messages";
import type { Store } from "../data/store";

const FORMAT = "coreml_lab dashboard";
const FILE_VERSION = 1;

export interface Tape {
  name: string;
  schema: Schema;
  rows: Float64Array;
  events: (CellEvent | IncidentEvent)[];
  recorded: Told | null;
}

/** Everything that the strips have, as a table; the time is in seconds of the kernel's clock. */
export function toCsv(store: Store): string {
  const cell = (text: string) => (/[",\n\r]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
  // A leading = + - @ would be run as a formula by a spreadsheet.
  const safe = (text: string) => cell(/^[=+\-@]/.test(text) ? `'${text}` : text);
  const heads = ["time [s]", ...store.schema.columns.map((column) => `${column.name} [${column.unit}] ${column.provenance}`)];
  const out = [heads.map(safe).join(",")];
  for (let i = 0; i < store.ring.length; i++) {
    const row: string[] = [];
    for (let c = 0; c < store.ring.width; c++) {
      const value = store.ring.value(i, c);
      row.push(Number.isFinite(value) ? String(value) : "");
    }
    out.push(row.join(","));
  }
  return `${out.join("\r\n")}\r\n`;
}

/** Everything, as a file that `fromJson` reads and the dashboard plays again. */
export function toJson(store: Store, name: string, recorded: Told | null): string {
  const rows: (number | null)[][] = [];
  for (let i = 0; i < store.ring.length; i++) {
    rows.push(Array.from({ length: store.ring.width }, (_, c) => finite(store.ring.value(i, c))));
  }
  // One run is exported: the one that was traced last.
  const told = recorded && { ...recorded, spans: [...recorded.spans], spansOf: undefined, tracks: [] };
  return JSON.stringify({
    format: FORMAT, version: FILE_VERSION, name, schema: store.schema, rows, events: [...store.cells, ...store.incidents], recorded: told,
  });
}

/** What `toJson` wrote. The file may be anyone's: its shape is checked, its texts stay text. */
export function fromJson(text: string): Tape {
  const data = JSON.parse(text) as { format?: unknown; version?: unknown; name?: unknown; schema?: Schema; rows?: unknown; events?: unknown; recorded?: unknown };
  if (data?.format !== FORMAT || data.version !== FILE_VERSION) throw new Error("another format");
  const columns = data.schema?.columns;
  if (!Array.isArray(columns) || !columns.every(isColumn) || typeof data.schema?.interval !== "number") throw new Error("no columns");
  const width = columns.length + 1;
  if (!Array.isArray(data.rows)) throw new Error("no rows");
  const rows = new Float64Array(data.rows.length * width);
  data.rows.forEach((row: unknown, i) => {
    if (!Array.isArray(row) || row.length !== width || typeof row[0] !== "number") throw new Error(`row ${i}`);
    row.forEach((value: unknown, c) => { rows[i * width + c] = typeof value === "number" ? value : NaN; });
    if (i && (rows[i * width] as number) < (rows[(i - 1) * width] as number)) throw new Error(`row ${i} is out of order`);
  });
  const events = (Array.isArray(data.events) ? data.events : []).filter(isEvent);
  return { name: String(data.name ?? ""), schema: data.schema as Schema, rows, events, recorded: toldOf(data.recorded) };
}

/** The last traced run in the trace event format, which Perfetto and Chrome open. */
export function toTrace(told: Told): string {
  const lanes = [...new Set(told.ops.map((row) => `${row.device} · ${row.engine}`))];
  const events: object[] = lanes.map((name, tid) => ({ ph: "M", name: "thread_name", pid: 1, tid, args: { name } }));
  events.push({ ph: "M", name: "process_name", pid: 1, args: { name: told.name } });
  for (let i = 0; i + 2 < told.spans.length; i += 3) {
    const row = told.ops[told.spans[i] as number];
    if (!row) continue;
    const args = { op: row.op, shape: row.shape, dtype: row.dtype, bytes: row.bytes, where: row.where, provenance: row.provenance };
    events.push({
      ph: "X", name: row.node, cat: row.op, pid: 1, tid: lanes.indexOf(`${row.device} · ${row.engine}`),
      ts: (told.spans[i + 1] as number) * 1e6, dur: (told.spans[i + 2] as number) * 1e6, args,
    });
  }
  return JSON.stringify({ displayTimeUnit: "ns", traceEvents: events });
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function isColumn(column: unknown): boolean {
  const one = column as Record<string, unknown> | null;
  return ["name", "label", "unit", "panel", "provenance", "note", "help"].every((key) => typeof one?.[key] === "string");
}

function isEvent(event: unknown): event is CellEvent | IncidentEvent {
  const one = event as Record<string, unknown> | null;
  if (one?.["k"] === "cell") return typeof one["src"] === "string" && typeof one["t0"] === "number";
  return one?.["k"] === "incident" && typeof one["t"] === "number" && typeof one["action"] === "string" && typeof one["error"] === "string";
}

function toldOf(value: unknown): Told | null {
  const told = value as (Recorded & { spans?: unknown }) | null;
  if (!told || told.k !== "recorded" || !Array.isArray(told.ops) || !Array.isArray(told.spans)) return null;
  if (!told.ops.every((row) => typeof row?.node === "string" && typeof row.op === "string" && typeof row.time === "number" && Array.isArray(row.fused))) return null;
  // Files of earlier versions have neither.
  const [code, roofs] = [Array.isArray(told.code) ? told.code : [], Array.isArray(told.roofs) ? told.roofs : []];
  return { ...told, code, roofs, tracks: [], spans: Float64Array.from(told.spans as number[]) };
}
