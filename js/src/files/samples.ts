// The columns of a saved recording's samples: shuffled bytewise, compressed and in base64 (coreml_lab/samples.py).

/** What a page unpacks at most: five hours of 30 metrics at 10 Hz. */
const MOST = 5_500_000;

export interface Samples {
  rows: number;
  metrics: string[];
  hows: [provenance: string, note: string][];
  /** Nanoseconds; exact up to 104 days of the clock. */
  t: Float64Array;
  metric: ArrayLike<number>;
  how: ArrayLike<number>;
  value: Float64Array;
}

const SIZES = { t_ns: 8, metric: 2, how: 4, value: 8 } as const;

export async function columnsOf(data: unknown): Promise<Samples> {
  // The first schema had its samples row by row.
  if (Array.isArray(data)) return ofRows(data as Record<string, unknown>[]);
  const told = data as { rows?: unknown; metrics?: unknown; hows?: unknown; columns?: Record<string, unknown> } | undefined;
  if (!told || typeof told.rows !== "number" || !Array.isArray(told.metrics) || !Array.isArray(told.hows)) throw new Error("no samples");
  const rows = told.rows;
  if (!(Number.isInteger(rows) && rows >= 0 && rows <= MOST)) throw new Error(`${rows} samples: a page reads at most ${MOST}`);
  const read = async (name: keyof typeof SIZES) => plain(await unpacked(String(told.columns?.[name] ?? ""), rows * SIZES[name], name), rows, SIZES[name]);
  const [t, metric, how, value] = await Promise.all([read("t_ns"), read("metric"), read("how"), read("value")]);
  const found: Samples = {
    rows, metrics: told.metrics.map(String), hows: told.hows.map((pair) => [String((pair as unknown[])[0]), String((pair as unknown[])[1])]),
    t: Float64Array.from(new BigInt64Array(t), Number), metric: new Uint16Array(metric), how: new Uint32Array(how), value: new Float64Array(value),
  };
  if (Array.from({ length: rows }, (_, i) => i).some((i) => (found.metric[i] as number) >= found.metrics.length)) throw new Error("a metric without a name");
  return found;
}

function ofRows(given: Record<string, unknown>[]): Samples {
  const metrics: string[] = [];
  const hows: [string, string][] = [];
  const place = (name: string) => (metrics.includes(name) ? metrics.indexOf(name) : metrics.push(name) - 1);
  const way = (how: string, note: string) => {
    const known = hows.findIndex((each) => each[0] === how && each[1] === note);
    return known >= 0 ? known : hows.push([how, note]) - 1;
  };
  const metric = given.map((row) => place(String(row["metric"])));
  const how = given.map((row) => way(String(row["provenance"]), String(row["note"] ?? "")));
  return {
    rows: given.length, metrics, hows, metric, how, t: Float64Array.from(given, (row) => Number(row["t_ns"])),
    value: Float64Array.from(given, (row) => (typeof row["value"] === "number" ? row["value"] : NaN)),
  };
}

/** Exactly `size` bytes: what unpacks to more is refused while it does. */
async function unpacked(text: string, size: number, name: string): Promise<Uint8Array> {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const out = new Uint8Array(size);
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > size) {
      await reader.cancel();
      throw new Error(`column ${name} is longer than it says`);
    }
    out.set(value, at);
    at += value.length;
  }
  if (at !== size) throw new Error(`column ${name} is shorter than it says`);
  return out;
}

/** Bytes of one significance lay side by side: put together again. */
function plain(planes: Uint8Array, rows: number, size: number): ArrayBuffer {
  const out = new Uint8Array(rows * size);
  for (let k = 0; k < size; k++) for (let i = 0; i < rows; i++) out[i * size + k] = planes[k * rows + i] as number;
  return out.buffer;
}
