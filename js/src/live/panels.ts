// What each strip draws and says: the table that turns metrics into lines, bands and read-outs.

import { between, count, digits, fitting, nice, NO_SAMPLE, show } from "../text/format";
import type { Swatch } from "../page/icons";
import type { Look } from "../data/look";
import type { CellEvent, Column, Schema } from "../data/messages";
import { METRICS } from "../text/metrics";
import { said } from "../text/said";
import { labelOf, t } from "../text/text";
import type { Role } from "../page/theme";

export interface LineSpec {
  metric: string;
  colour: Role;
  dash: number[];
  width: number;
}

export interface PlotSpec {
  height: number;
  narrowHeight: number;
  unit: string;
  lines: LineSpec[];
  /** Metric that is filled down to zero. */
  area?: string;
  /** Lower and upper edge of an estimate. */
  band?: [string, string];
  /** Least upper end of the axis, in base units. */
  least: number;
  /** Upper end while there is nothing to draw. */
  empty?: number;
  /** Whether the axis ends exactly there. */
  fixed?: boolean;
  /** Whether it has neither axis nor curves. */
  bare?: boolean;
  /** Words in a hatched lane at the foot, for what cannot be had. */
  missing?: string;
}

export interface ReadingSpec {
  swatch: Swatch;
  label: string | ((look: Look) => string);
  provenance: string;
  why: string;
  value: (look: Look) => string;
  /** The column behind it, where it is one. */
  metric?: string;
  /** A small picture instead of a value. */
  cores?: string[];
  /** Takes the whole line and wraps. */
  wide?: boolean;
  /** Only where there is room. */
  roomy?: boolean;
}

export interface StripSpec {
  id: string;
  title: string;
  provenance: string;
  why: string;
  headline: (look: Look) => [value: string, unit: string];
  readings: ReadingSpec[];
  plots: PlotSpec[];
}

const CPU = "process.cpu.cores";
const MACHINE = "system.cpu.cores";
const CORE = "system.cpu.core/";
const LOW = "coreml_lab.power.cpu.low";
const HIGH = "coreml_lab.power.cpu.high";
const PACKAGE = "hw.power.package";
const NEURAL = "hw.power.ane";
const RATE = "coreml_lab.executor.throughput";
const P50 = "coreml_lab.executor.latency.p50";
const P95 = "coreml_lab.executor.latency.p95";
const P99 = "coreml_lab.executor.latency.p99";
const BATTERY = "hw.battery.charge";
const HEAT = "coreml_lab.thermal.state";
/** What `coreml_lab.thermal.state` counts. */
const HEAT_WORDS = [t("nominal"), t("fair"), t("serious"), t("critical")];

type Style = Omit<LineSpec, "metric">;

const STYLES: Record<string, Style> = {
  [CPU]: { colour: "cpu", dash: [], width: 1.6 },
  [MACHINE]: { colour: "all", dash: [5, 3], width: 1.2 },
  "process.memory.usage": { colour: "cpu", dash: [], width: 1.6 },
  "process.memory.peak": { colour: "cpu", dash: [1.5, 2.5], width: 1.2 },
  "system.memory.available": { colour: "all", dash: [5, 3], width: 1.2 },
  "system.memory.limit": { colour: "warn", dash: [2, 2], width: 1.4 },
  [PACKAGE]: { colour: "cpu", dash: [], width: 1.6 },
  [NEURAL]: { colour: "ane", dash: [], width: 1.6 },
  [RATE]: { colour: "cpu", dash: [], width: 1 },
  [P50]: { colour: "cpu", dash: [], width: 1.7 },
  [P95]: { colour: "cpu", dash: [5, 2], width: 1.2 },
  [P99]: { colour: "cpu", dash: [1.5, 2.5], width: 1.2 },
};
/** Every metric of a GPU has its colour; several GPUs are told apart by their dashes. */
const GPU = /^(hw\.gpu\.|hw\.power\.gpu|hw\.temperature\.gpu|coreml_lab\.device\.)/;
const GPU_DASHES = [[], [7, 2, 2, 2], [5, 3], [2, 2]];
const OTHER: Style = { colour: "all", dash: [7, 2, 2, 2], width: 1.2 };
function styleOf(name: string): Style {
  const known = STYLES[name];
  if (known || !GPU.test(name)) return known ?? OTHER;
  const place = Number(name.split("/")[1] ?? 0) || 0;
  return { colour: "gpu", dash: GPU_DASHES[place % GPU_DASHES.length] ?? [], width: 1.5 };
}
const NOTHING: Swatch = { kind: "none" };

class Columns {
  readonly all: Column[];
  constructor(schema: Schema) {
    this.all = schema.columns;
  }
  get(name: string): Column | undefined {
    return this.all.find((column) => column.name === name);
  }
  /** Whether a metric can be drawn. */
  has(name: string): boolean {
    const column = this.get(name);
    return column !== undefined && column.provenance !== "unavailable";
  }
  why(name: string): string {
    const column = this.get(name);
    return column ? said(column.note || column.help) : t("unread");
  }
  line(name: string): LineSpec[] {
    return this.has(name) ? [{ metric: name, ...styleOf(name) }] : [];
  }
  /** Metrics of a panel that no strip knows: each gets a line and a read-out of its own. */
  others(panel: string, unit: string, known: string[]): string[] {
    return this.all
      .filter((c) => c.panel === panel && c.unit === unit && !known.includes(c.name) && this.has(c.name))
      .map((c) => c.name);
  }
}

function lineSwatch(name: string): Swatch {
  const style = styleOf(name);
  return { kind: "line", colour: `var(--${style.colour})`, dash: style.dash.join(" "), width: style.width };
}

/** The read-out of one metric: its value under the cursor, or the word that it cannot be had. */
function reading(columns: Columns, name: string, extra: Partial<ReadingSpec> = {}): ReadingSpec {
  const column = columns.get(name);
  const missing = !columns.has(name);
  return {
    swatch: missing ? { kind: "missing" } : lineSwatch(name),
    label: labelOf(column ?? { name, label: METRICS[name]?.[0] ?? name }),
    metric: name,
    provenance: column?.provenance ?? "unavailable",
    why: columns.why(name),
    value: (look) => (missing ? t("unavailable") : show(look.at(name), column?.unit ?? "1")),
    ...extra,
  };
}

function headline(look: Look, name: string, unit: string): [string, string] {
  const value = look.latest(name);
  if (!Number.isFinite(value)) return ["", NO_SAMPLE];
  const scale = fitting(value, unit);
  return [digits(value / scale.divisor), scale.unit];
}

function cpu(columns: Columns): StripSpec {
  const cores = columns.all.filter((c) => c.name.startsWith(CORE)).map((c) => c.name);
  const most = cores.length;
  const others = columns.others("cpu", "{core}", [CPU, MACHINE]);
  const of = most > 1 ? t("ofCores", most) : most ? t("ofCore") : t("cores");
  const picture: ReadingSpec[] = cores.length
    ? [{ swatch: NOTHING, label: t("perCore"), provenance: "", why: columns.why(cores[0] as string), value: () => "", cores, roomy: true }]
    : [];
  return {
    id: "cpu", title: t("cpu"),
    provenance: columns.get(CPU)?.provenance ?? "unavailable", why: columns.why(CPU),
    headline: (look) => [headline(look, CPU, "{core}")[0], Number.isFinite(look.latest(CPU)) ? of : NO_SAMPLE],
    readings: [reading(columns, CPU), reading(columns, MACHINE), ...others.map((n) => reading(columns, n)), ...picture],
    plots: [{
      height: 86, narrowHeight: 70, unit: "{core}", least: most > 0 && most <= 8 ? most : 1, fixed: most > 0 && most <= 8,
      lines: [MACHINE, CPU, ...others].flatMap((n) => columns.line(n)),
    }],
  };
}

function memory(columns: Columns): StripSpec {
  const known = ["process.memory.usage", "process.memory.peak", "system.memory.available", "system.memory.limit"];
  // What a model needs counts as a device's panel, and is this kernel's memory where the device is the CPU.
  const others = [...columns.others("memory", "By", known), ...columns.others("device", "By", known).filter((name) => !GPU.test(name))];
  const pressure = "coreml_lab.memory.pressure";
  return {
    id: "memory", title: t("memoryStrip"),
    provenance: columns.get("process.memory.usage")?.provenance ?? "unavailable", why: columns.why("process.memory.usage"),
    headline: (look) => headline(look, "process.memory.usage", "By"),
    readings: [...known, ...others].map((n) => reading(columns, n)).concat(
      columns.get(pressure) ? [reading(columns, pressure, { swatch: columns.has(pressure) ? NOTHING : { kind: "missing" } })] : [],
    ),
    plots: [{
      height: 112, narrowHeight: 74, unit: "By", least: 1e6,
      // Available memory and the limit are drawn where they lie within the kernel's own scale; their numbers always stand beside it.
      lines: ["system.memory.limit", "system.memory.available", "process.memory.peak", "process.memory.usage", ...others]
        .flatMap((n) => columns.line(n)),
    }],
  };
}

/** What a device does that no column tells: the word, and the reason on hover. */
function absent(label: string, why: string): ReadingSpec {
  return { swatch: { kind: "missing" }, label, provenance: "unavailable", why, value: () => t("unavailable") };
}

/** GPUs: how busy, how full, how warm. The Neural Engine: whether it draws power, or why nobody knows. */
function accelerators(columns: Columns, neural: string): StripSpec {
  const of = (unit: string) => columns.others("device", unit, []).filter((name) => GPU.test(name));
  const [busy, held, warm] = [of("1"), of("By"), of("Cel")];
  const first = busy[0] ?? held[0];
  const apple = columns.has(NEURAL);
  const plots: PlotSpec[] = [];
  if (busy.length) plots.push({ height: 60, narrowHeight: 56, unit: "1", least: 1, fixed: true, lines: busy.flatMap((n) => columns.line(n)) });
  if (held.length) plots.push({ height: 60, narrowHeight: 56, unit: "By", least: 1e6, lines: held.flatMap((n) => columns.line(n)) });
  if (apple) plots.push({ height: 44, narrowHeight: 42, unit: "W", least: 0.1, lines: columns.line(NEURAL) });
  const lane = { missing: t("neuralOff", neural) };
  if (!apple && plots.length) plots.push({ ...(plots.pop() as PlotSpec), ...lane });
  // A lane alone: there is nothing to draw a curve of.
  if (!plots.length) plots.push({ height: 42, narrowHeight: 30, unit: "1", least: 1, lines: [], bare: true, ...lane });
  const awake = (look: Look) => { const watts = look.at(NEURAL); return Number.isFinite(watts) ? t(watts > 0 ? "active" : "resting") : NO_SAMPLE; };
  return {
    id: "accelerators", title: t("accelerators"), provenance: first ? columns.get(first)?.provenance ?? "measured" : "", why: first ? columns.why(first) : "",
    headline: (look) => (first ? headline(look, first, columns.get(first)?.unit ?? "1") : apple ? ["", awake(look)] : ["", t("unavailable")]),
    readings: [
      ...(first ? [...busy, ...held].map((n) => reading(columns, n)) : [absent("GPU", t("noGpu"))]), ...warm.map((n) => reading(columns, n, { swatch: NOTHING })),
      apple ? reading(columns, NEURAL, { label: t("neural"), value: awake }) : absent(t("neural"), neural),
    ],
    plots,
  };
}

/** What the machine's heat and battery do: numbers that change too slowly for a curve. */
function conditions(columns: Columns): ReadingSpec[] {
  const found: ReadingSpec[] = [];
  if (columns.has(BATTERY)) found.push(reading(columns, BATTERY, { swatch: NOTHING }));
  if (columns.has(HEAT)) {
    found.push(reading(columns, HEAT, { swatch: NOTHING, value: (look) => HEAT_WORDS[look.at(HEAT)] ?? NO_SAMPLE }));
  }
  return found;
}

function inCell(label: string, cell: CellEvent | undefined): string {
  if (!cell) return t("inACell", label);
  return cell.n === null ? t("inThisCell", label) : t("inCell", label, cell.n);
}

function energy(label: string, provenance: string, why: string, text: (look: Look, cell: CellEvent) => string): ReadingSpec {
  return {
    swatch: NOTHING, provenance, why,
    label: (look) => inCell(label, look.cell),
    value: (look) => (look.cell ? text(look, look.cell) : t("noCell")),
  };
}

function power(columns: Columns): StripSpec {
  const estimated = columns.has(LOW) && columns.has(HIGH);
  const measured = columns.has(PACKAGE);
  const others = columns.others("power", "W", [LOW, HIGH, PACKAGE]);
  const readings: ReadingSpec[] = [
    reading(columns, HIGH, {
      label: "CPU", swatch: { kind: estimated ? "band" : "missing" },
      value: (look) => (estimated ? between(look.at(LOW), look.at(HIGH), "W") : t("unavailable")),
    }),
    reading(columns, PACKAGE),
    ...others.map((n) => reading(columns, n)),
  ];
  if (estimated) {
    readings.push(energy("CPU", "estimated", `${columns.why(LOW)}; ${t("summed")}`,
      (look, cell) => between(look.over(LOW, cell), look.over(HIGH, cell), "J")));
  }
  if (measured) {
    readings.push(energy(t("package"), "measured", t("summed"),
      (look, cell) => show(look.over(PACKAGE, cell), "J")));
  }
  for (const name of others) {
    if (!name.startsWith("hw.power.")) continue;
    const column = columns.get(name);
    readings.push(energy(column ? labelOf(column) : name, column?.provenance ?? "measured", t("summed"),
      (look, cell) => show(look.over(name, cell), "J")));
  }
  readings.push(...conditions(columns));
  return {
    id: "power", title: t("power"),
    // An estimate carries its mark in the number itself.
    provenance: measured ? "measured" : estimated ? "" : "unavailable", why: columns.why(measured ? PACKAGE : LOW),
    headline: (look) => {
      if (measured) return headline(look, PACKAGE, "W");
      if (!estimated) return ["", t("unavailable")];
      const text = between(look.latest(LOW), look.latest(HIGH), "W");
      const cut = text.lastIndexOf(" ");
      return text === NO_SAMPLE ? ["", text] : [text.slice(0, cut), text.slice(cut + 1)];
    },
    readings,
    plots: [{
      height: 98, narrowHeight: 92, unit: "W", least: 1, lines: [PACKAGE, ...others].flatMap((n) => columns.line(n)),
      ...(estimated ? { band: [LOW, HIGH] as [string, string] } : {}),
      ...(measured ? {} : { missing: t("missing", "CPU package", columns.why(PACKAGE)) }),
    }],
  };
}

function executor(columns: Columns): StripSpec {
  const state = (label: string, value: (look: Look) => string, why: string, wide = false): ReadingSpec => ({
    swatch: NOTHING, label, provenance: "", why, value, wide,
  });
  return {
    id: "executor", title: t("executor"), provenance: columns.get(RATE)?.provenance ?? "measured", why: columns.why(RATE),
    headline: (look) => [headline(look, RATE, "Hz")[0], Number.isFinite(look.latest(RATE)) ? t("perSecond") : NO_SAMPLE],
    readings: [
      reading(columns, RATE, { swatch: { kind: "area" } }),
      reading(columns, P50),
      reading(columns, P95),
      ...(columns.get(P99) ? [reading(columns, P99)] : []),
      state(t("cacheHits"), (l) => cacheHits(l), t("cacheWhy")),
      state(t("runsIncidents"), (l) => `${count(l.store.state?.runs ?? 0)}, ${count(l.store.state?.incidents ?? 0)}`,
        t("runsWhy")),
      state(t("scheduler"), (l) => l.store.state?.scheduler || t("noRequest"), t("schedulerWhy"), true),
      state(t("on"), (l) => l.store.state?.title || t("noRun"), t("onWhy"), true),
    ],
    plots: [
      { height: 44, narrowHeight: 42, unit: "Hz", least: 1, lines: columns.line(RATE), area: RATE },
      { height: 88, narrowHeight: 70, unit: "s", least: 1e-6, empty: 1e-3, lines: [...columns.line(P99), ...columns.line(P95), ...columns.line(P50)] },
    ],
  };
}

function cacheHits(look: Look): string {
  const state = look.store.state;
  const asked = state ? state.hits + state.misses : 0;
  return state && asked ? t("outOf", count(state.hits), count(asked)) : t("noneAsked");
}

/** The strips of the Live view, in reading order; `neural` is why nothing is read of a Neural Engine. */
export function strips(schema: Schema, neural = t("unread")): StripSpec[] {
  const columns = new Columns(schema);
  return [cpu(columns), memory(columns), accelerators(columns, neural), power(columns), executor(columns)];
}

/** Upper end of an axis, in base units: round in the unit in which it is written. */
export function axisTop(spec: PlotSpec, greatest: number): number {
  if (spec.fixed) return Math.max(spec.least, Math.ceil(greatest - 0.05));
  const wanted = greatest > 0 ? Math.max(greatest * 1.08, spec.least) : (spec.empty ?? spec.least);
  const { divisor } = fitting(wanted, spec.unit);
  return nice(wanted / divisor) * divisor;
}

/** Metrics that decide the axis: what may lie far above the kernel's own numbers does not. */
export function scaling(spec: PlotSpec): Set<string> {
  const aside = ["system.memory.available", "system.memory.limit"];
  return new Set([...spec.lines.map((l) => l.metric), ...(spec.band ?? [])].filter((m) => !aside.includes(m)));
}
