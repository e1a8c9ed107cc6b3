// What the blocks of a timeline are coloured by: device, op type or provenance.

import type { Told } from "../data/desk";
import { COLOUR, kindOf, weight } from "./kinds";
import { provenanceName } from "../page/icons";
import type { OpRow } from "../data/messages";
import { t } from "../text/text";
import type { Role } from "../page/theme";

export type PaintBy = "device" | "type" | "provenance";

export interface Paint {
  role: Role;
  /** How dark. */
  weight: number;
}

export interface Key {
  role: Role;
  text: string;
}

/** Of op types, those that take most time have a colour of their own; the others share one. */
const OWN: Role[] = ["cpu", "move", "gpu", "ane", "soft", "warn"];
const HOW: Record<string, Role> = { measured: "cpu", apportioned: "move", estimated: "est", simulated: "ane" };

/** The paint of each row, and what it means. */
export function paints(told: Told, by: PaintBy): { of: (row: OpRow) => Paint; keys: Key[] } {
  if (by === "provenance") {
    const seen = [...new Set(told.ops.map((row) => row.provenance))];
    return { of: (row) => ({ role: HOW[row.provenance] ?? "all", weight: 0.85 }), keys: seen.map((how) => ({ role: HOW[how] ?? "all", text: provenanceName(how) })) };
  }
  if (by === "type") {
    const times = new Map<string, number>();
    for (const row of told.ops) times.set(row.op, (times.get(row.op) ?? 0) + row.time);
    const ranked = [...times].sort((a, b) => b[1] - a[1]).map(([op]) => op);
    const role = (op: string): Role => OWN[ranked.indexOf(op)] ?? "all";
    const keys: Key[] = ranked.slice(0, OWN.length).map((op) => ({ role: role(op), text: op }));
    if (ranked.length > OWN.length) keys.push({ role: "all", text: "…" });
    return { of: (row) => ({ role: role(row.op), weight: 0.85 }), keys };
  }
  const kinds = [...new Set(told.ops.map(kindOf))];
  const name = { cpu: "CPU", gpu: "GPU", ane: t("neural"), transfer: t("transfers") };
  return { of: (row) => ({ role: COLOUR[kindOf(row)], weight: weight(row.op) }), keys: kinds.map((kind) => ({ role: COLOUR[kind], text: name[kind] })) };
}
