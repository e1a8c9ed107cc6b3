// What the colours say: a device, a time, bits, a kind of operation, a change. Unknown is hatched, never a colour. Pure.

import { show } from "../text/format";
import type { Pair } from "./messages";
import { type Item, Program } from "./program";
import { t, type Text } from "./text";

export type Mode = "placing" | "ran" | "time" | "bits" | "family" | "changes";

/** How a box is filled; `tag` says the same in a few letters. */
export interface Look {
  /** A key of the palette; null where there is nothing to say. */
  colour: string | null;
  known: boolean;
  tag: string;
  /** Of a group: its parts by colour, as shares of 1. */
  parts?: [colour: string, share: number][];
  group?: true;
}

export interface Entry {
  colour: string | null;
  known: boolean;
  text: string;
  count: number;
}

export interface Scale {
  low: number;
  high: number;
}

export const FAMILIES = [
  "conv", "matrix", "attention", "recurrent", "norm", "activation", "pool", "reduce", "elementwise", "cast", "resize", "layout", "control", "state", "port", "other",
] as const;
const WIDTHS = [32, 16, 8, 6, 4, 3] as const;
const SHORT: Record<string, string> = { cpu: "CPU", gpu: "GPU", ne: "NE" };

/** Okabe-Ito where colours stand for things; lightened on dark grounds as in the dashboard. */
export function palette(dark: boolean): Record<string, string> {
  const pick = (light: string, night: string) => (dark ? night : light);
  const [blue, green, pink, orange, red, sky] = [
    pick("#0072b2", "#56b4e9"), pick("#009e73", "#1fc298"), pick("#cc79a7", "#db9bbf"), pick("#e69f00", "#f0ae1e"), pick("#d55e00", "#f0742a"), pick("#56b4e9", "#2f8fd0"),
  ];
  const [grey, yellow] = [pick("#767676", "#9a9a9a"), pick("#b5a400", "#f0e442")];
  return {
    cpu: blue, gpu: green, ne: pink, folded: grey,
    w32: red, w16: orange, w8: sky, w6: blue, w4: green, w3: pink,
    conv: blue, matrix: green, attention: pink, recurrent: pick("#8b5fbf", "#b794e0"), norm: orange, activation: red, pool: sky, reduce: yellow,
    elementwise: grey, cast: pick("#a0522d", "#d69a76"), resize: pick("#3d8b8b", "#74c4c4"), layout: pick("#9a9a9a", "#6f6f6f"), control: pick("#444", "#ddd"), state: pick("#7a5c00", "#d9b84a"), port: pick("#555", "#bbb"), other: grey,
    same: pick("#9a9a9a", "#7d7d7d"), retyped: sky, changed: orange, added: green, removed: red,
    ...Object.fromEntries(HEAT.map((_, i) => [`h${i}`, HEAT[dark ? HEAT.length - 1 - i : i] as string])),
  };
}

/** From little to much; on dark grounds the other way round, so that much always stands out. */
const HEAT = ["#ffeaa0", "#fdcb5c", "#f6a032", "#e07318", "#b94a0c", "#872e08", "#571c05"];
export const STEPS = HEAT.length;

/** A change of the element type alone is told apart: where precision changes, it changes everywhere. */
export function stateOf(pair: Pair): string {
  if (!pair.changes.length) return "same";
  return pair.changes.every((what) => what === "precision") ? "retyped" : "changed";
}

/** Which colours say what for one program. */
export class Colouring {
  private readonly state = new Map<number, string>();

  constructor(
    readonly program: Program, readonly mode: Mode, private readonly scale: Scale | null,
    pairs: Pair[] | null, side: 0 | 1,
  ) {
    if (!pairs) return;
    for (const pair of pairs) this.state.set(side ? pair.b : pair.a, stateOf(pair));
    program.nodes.forEach((_, i) => { if (!this.state.has(i)) this.state.set(i, side ? "added" : "removed"); });
  }

  /** Whether an operation is the same in the other model, changed, added or removed; "" without another. */
  change(node: number): string {
    return this.state.get(node) ?? "";
  }

  look(item: Item): Look {
    return this.program.isGroup(item) ? { ...this.group(item), group: true } : this.node(item);
  }

  private node(node: number): Look {
    const box = this.program.nodes[node];
    if (!box) return { colour: null, known: true, tag: "" };
    const port = box.kind !== "op";
    switch (this.mode) {
      case "family": return { colour: FAMILIES.includes(box.family as never) ? box.family : "other", known: true, tag: "" };
      case "changes": {
        const state = this.change(node) || "same";
        return { colour: state, known: true, tag: { same: "", retyped: "~", changed: "≠", added: "+", removed: "−" }[state] ?? "" };
      }
      case "bits":
        if (port || !box.weights.length) return { colour: null, known: true, tag: "" };
        return box.bits === null ? { colour: null, known: false, tag: "?" } : { colour: width(box.bits), known: true, tag: `${box.bits}` };
      case "placing": {
        const placed = this.program.picture.placing.rows[node];
        if (port) return { colour: null, known: true, tag: "" };
        if (!placed) return { colour: null, known: false, tag: "?" };
        return placed.device ? { colour: placed.device, known: true, tag: SHORT[placed.device] ?? placed.device } : { colour: "folded", known: true, tag: "–" };
      }
      case "ran": return port ? { colour: null, known: true, tag: "" } : this.device(node);
      case "time": return port ? { colour: null, known: true, tag: "" } : this.time(node);
    }
  }

  private device(node: number): Look {
    const time = this.program.picture.timed.rows[node];
    const kind = time ? deviceKind(time.device) : this.program.picture.device;
    return kind ? { colour: kind, known: true, tag: SHORT[kind] ?? kind } : { colour: null, known: false, tag: "?" };
  }

  private time(node: number): Look {
    const time = this.program.picture.timed.rows[node];
    if (!time || (time.seconds === null && time.carrier < 0)) return { colour: null, known: false, tag: "?" };
    if (time.seconds === null) return { colour: null, known: false, tag: "↳" };
    return { colour: this.heat(time.seconds), known: true, tag: show(time.seconds, "s") };
  }

  private heat(seconds: number): string {
    return `h${step(seconds, this.scale)}`;
  }

  private group(item: Item): Look {
    const nodes = this.program.within(this.program.groupOf(item)).filter((i) => this.program.nodes[i]?.kind === "op");
    const looks = nodes.map((i) => this.node(i));
    const counts = new Map<string, number>();
    for (const look of looks) if (look.colour) counts.set(look.colour, (counts.get(look.colour) ?? 0) + 1);
    const all = [...counts.values()].reduce((sum, n) => sum + n, 0);
    const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([colour, n]): [string, number] => [colour, n / all]);
    const unknown = looks.some((look) => !look.known);
    if (this.mode === "time") {
      const times = nodes.map((i) => this.program.picture.timed.rows[i]?.seconds ?? null).filter((s): s is number => s !== null);
      if (!times.length) return { colour: null, known: false, tag: "?" };
      const sum = times.reduce((a, b) => a + b, 0);
      return { colour: this.heat(sum), known: true, tag: show(sum, "s"), parts };
    }
    if (!parts.length) return { colour: null, known: !unknown, tag: unknown ? "?" : "" };
    if (this.mode === "changes") {
      const differing = looks.filter((look) => look.colour !== "same" && look.colour !== "retyped").length;
      const colour = differing ? (parts.find(([c]) => c !== "same" && c !== "retyped") as [string, number])[0] : parts[0]?.[0] ?? "same";
      return { colour, known: true, tag: differing ? `≠ ${differing}` : "", parts };
    }
    const [first] = parts as [[string, number]];
    const tag = parts.length === 1 ? (looks.find((look) => look.colour)?.tag ?? "") : "";
    return { colour: first[0], known: true, tag, parts };
  }

  /** What the legend lists: only what is there, with how many operations have it. */
  legend(): Entry[] {
    const found = new Map<string, Entry>();
    this.program.nodes.forEach((box, i) => {
      if (box.kind !== "op" && this.mode !== "family" && this.mode !== "changes") return;
      const look = this.node(i);
      const key = this.mode === "time" && look.colour ? "time" : (look.colour ?? `${look.known} ${look.tag}`);
      const entry = found.get(key);
      if (entry) entry.count++;
      else found.set(key, { colour: look.colour, known: look.known, text: this.word(look), count: 1 });
    });
    const order = ["ne", "gpu", "cpu", "folded", "w32", "w16", "w8", "w6", "w4", "w3", ...FAMILIES, "same", "retyped", "changed", "added", "removed"];
    const rank = (entry: Entry) => (entry.colour ? order.indexOf(entry.colour) : 90 + Number(!entry.known));
    return [...found.values()].sort((a, b) => rank(a) - rank(b));
  }

  private word(look: Look): string {
    const { colour } = look;
    if (look.tag === "↳") return t("carried");
    if (!colour) return look.known ? t(this.mode === "bits" ? "noWeights" : "input") : t("unknown");
    if (colour === "folded") return t("foldedOp");
    if (colour === "other") return t("otherKind");
    if (/^w\d/.test(colour)) return t("lessBits", colour === "w3" ? "1–3" : colour === "w6" ? "5–6" : colour.slice(1));
    return /^h\d/.test(colour) ? t("time") : t(colour as Text);
  }
}

/** `cpu`, `gpu` or `ne` of a device's name. */
export function deviceKind(device: string): string {
  if (device === "ne") return "ne";
  return /^(cuda|metal|opencl|gpu)/.test(device) ? "gpu" : "cpu";
}

function width(bits: number): string {
  return `w${WIDTHS.findLast((w) => bits <= w) ?? 32}`;
}

/** The least and the most of all measured times. */
export function scaleOf(programs: Program[]): Scale | null {
  const all = programs.flatMap((p) => Object.values(p.picture.timed.rows)).map((row) => row.seconds).filter((s): s is number => s !== null && s > 0);
  return all.length ? { low: all.reduce((a, b) => Math.min(a, b)), high: all.reduce((a, b) => Math.max(a, b)) } : null;
}

/** The step of a logarithmic scale that a time falls on. */
export function step(seconds: number, scale: Scale | null): number {
  if (!scale || !(seconds > 0) || scale.high <= scale.low) return 0;
  const share = Math.log(seconds / scale.low) / Math.log(scale.high / scale.low);
  return Math.max(0, Math.min(STEPS - 1, Math.floor(share * STEPS)));
}
