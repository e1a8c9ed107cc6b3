// What the kernel tells an Inspector: the same shapes as coreml_lab/explain/picture/data.py (a test compares them).

export const VERSION = 1;

export interface Weight {
  param: string;
  shape: string;
  bits: number | null;
  bytes: number;
  how: string;
  users: number;
}

export interface Arrow {
  param: string;
  node: number;
  result: number;
}

export interface Box {
  name: string;
  op: string;
  family: string;
  kind: "op" | "input" | "output" | "state";
  group: number;
  inputs: Arrow[];
  types: string[];
  bytes: number | null;
  params: [string, string][];
  weights: Weight[];
  bits: number | null;
  where: string;
}

export interface Group {
  title: string;
  kind: "scope" | "repeat" | "op" | "block";
  parent: number;
  owner: number;
  number: number;
  of: number;
}

export interface Why {
  text: string;
  remedy: string;
  confidence: string;
  sources: string[];
}

export interface Placed {
  device: string;
  supported: string[];
  note: string;
  seconds: number | null;
  reasons: Why[];
  risks: Why[];
}

export interface Placing {
  title: string;
  rows: Record<string, Placed>;
  sources: Record<string, string>;
  missing: string;
  how: string;
}

export interface Time {
  seconds: number | null;
  provenance: string;
  device: string;
  engine: string;
  carrier: number;
}

export interface Timed {
  title: string;
  runs: number;
  rows: Record<string, Time>;
  missing: string;
}

export interface Picture {
  name: string;
  detail: string;
  nodes: Box[];
  groups: Group[];
  ran: string;
  device: string;
  folded: number;
  placing: Placing;
  timed: Timed;
}

export interface Pair {
  a: number;
  b: number;
  changes: string[];
}

export interface Scene {
  version: number;
  pictures: Picture[];
  pairs: Pair[];
}
