// Rows of operations: searched, put together and sorted. Pure.

import type { OpRow } from "../data/messages";

export type Grouping = "byOp" | "byType" | "byScope";
export type Column = "name" | "type" | "share" | "time" | "count" | "weights" | "bytes" | "memory" | "device" | "provenance";

export interface Line {
  name: string;
  type: string;
  share: number | null;
  time: number;
  count: number;
  weights: number;
  bytes: number;
  memory: number | null;
  device: string;
  provenance: string;
  /** Places of its operations. */
  members: number[];
}

const CERTAIN = ["measured", "apportioned", "estimated", "simulated", "unavailable"];

/** The part of a name that says where in the model it is: all but its last piece. */
export function scope(name: string): string {
  const cut = Math.max(name.lastIndexOf("/"), name.lastIndexOf("."));
  return cut > 0 ? name.slice(0, cut) : name.replace(/_?\d+$/, "") || name;
}

/** Whether every word of a search is in the row's texts. */
export function matches(row: OpRow, search: string): boolean {
  const text = [row.node, row.op, row.device, row.engine, row.where, row.placed, ...row.fused].join(" ").toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

export function lines(ops: OpRow[], grouping: Grouping, search: string): Line[] {
  const groups = new Map<string, number[]>();
  ops.forEach((row, i) => {
    if (!matches(row, search)) return;
    const own = grouping === "byOp" ? String(i) : grouping === "byType" ? row.op : scope(row.node);
    // What was measured and what was apportioned is not added up.
    const key = grouping === "byOp" ? own : `${own}\n${row.device}\n${row.provenance}`;
    groups.set(key, [...(groups.get(key) ?? []), i]);
  });
  return [...groups.values()].map((members) => joined(ops, members, grouping));
}

function joined(ops: OpRow[], members: number[], grouping: Grouping): Line {
  const rows = members.map((i) => ops[i] as OpRow);
  const first = rows[0] as OpRow;
  const sum = (pick: (row: OpRow) => number) => rows.reduce((all, row) => all + pick(row), 0);
  const types = [...new Set(rows.map((row) => row.op))];
  const known = rows.map((row) => row.memory).filter((value): value is number => value !== null);
  return {
    name: grouping === "byOp" ? first.node : grouping === "byType" ? first.op : scope(first.node),
    type: types.length > 2 ? `${types.slice(0, 2).join(", ")} …` : types.join(", "),
    share: rows.some((row) => row.share === null) ? null : sum((row) => row.share ?? 0),
    time: sum((row) => row.time), count: sum((row) => row.count), weights: sum((row) => row.weights), bytes: sum((row) => row.bytes),
    // Operations run one after the other, so their memory is not a sum: the most any of them had in use.
    memory: known.length ? Math.max(...known) : null,
    device: first.device, provenance: first.provenance, members,
  };
}

/** Sorted by a column; what is unknown comes last either way. */
export function sorted(rows: Line[], column: Column, descending: boolean): Line[] {
  const value = (line: Line) => (column === "provenance" ? CERTAIN.indexOf(line.provenance) : line[column]);
  const sign = descending ? -1 : 1;
  return [...rows].sort((a, b) => {
    const x = value(a);
    const y = value(b);
    if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
    const order = typeof x === "string" ? x.localeCompare(y as string) : x - (y as number);
    return sign * order || a.name.localeCompare(b.name);
  });
}
