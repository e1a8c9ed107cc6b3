// What kernel and page say to each other: the same shapes as coreml_lab/widgets/messages.py (a test compares them).

export const VERSION = 1;

export interface Column {
  name: string;
  label: string;
  unit: string;
  panel: string;
  provenance: string;
  note: string;
  help: string;
}

export interface Schema {
  id: number;
  interval: number;
  columns: Column[];
}

export interface CellEvent {
  k: "cell";
  id: number;
  n: number | null;
  src: string;
  t0: number;
  t1: number | null;
  ok: boolean | null;
}

export interface IncidentEvent {
  k: "incident";
  id: number;
  t: number;
  error: string;
  message: string;
  action: string;
  outcome: string;
}

export interface State {
  busy: boolean;
  cell: CellEvent | null;
  runs: number;
  incidents: number;
  hits: number;
  misses: number;
  program: string;
  scheduler: string;
  title: string;
}

export interface Frame {
  k: "f" | "h";
  v: number;
  schema: number;
  seq: number;
  n: number;
  dropped: number;
  now: number;
  every: number;
  events: (CellEvent | IncidentEvent)[];
  state: State;
}

export interface About {
  name: string;
  detail: string;
}

export interface Chip {
  title: string;
  kind: "cpu" | "gpu" | "ane" | "source";
  provenance: string;
  note: string;
}

export interface Hello {
  k: "hello";
  v: number;
}

export interface Heartbeat {
  k: "hb";
  v: number;
}

export interface Amount {
  value: number | null;
  unit: string;
  provenance: string;
  low: number | null;
  high: number | null;
  note: string;
}

export interface OpRow {
  node: string;
  op: string;
  engine: string;
  device: string;
  time: number;
  share: number | null;
  count: number;
  bytes: number;
  weights: number;
  memory: number | null;
  flops: number | null;
  moved: number | null;
  provenance: string;
  where: string;
  shape: string;
  dtype: string;
  fused: string[];
  placed: string;
  why: string;
}

export interface Code {
  where: string;
  lines: string[];
  first: number;
  line: number;
}

export interface Roof {
  engine: string;
  device: string;
  flops: number;
  memory: number;
}

export interface Track {
  run: number;
  n: number;
  length: number;
}

export interface Recorded {
  k: "recorded";
  v: number;
  id: number;
  name: string;
  title: string;
  package: string;
  chip: string;
  runs: number;
  traced: number;
  n: number;
  length: number;
  left_out: number;
  tracks: Track[];
  p50: Amount;
  p95: Amount;
  ops: OpRow[];
  code: Code[];
  roofs: Roof[];
}

export interface Past {
  k: "past";
  v: number;
  name: string;
  schema: Schema;
  n: number;
  events: (CellEvent | IncidentEvent)[];
}

export interface Card {
  id: number;
  rule: string;
  title: string;
  why: string;
  evidence: string[];
  gain: Amount;
  confidence: string;
  serves: string;
  target: string;
  risk: string;
  advice: string;
  can: boolean;
  state: "new" | "waiting" | "running" | "awaits" | "accepted" | "rejected" | "failed" | "stopped" | "advice";
  done: number;
  of: number;
  reasons: string[];
  before: Amount | null;
  after: Amount | null;
  ratio: Amount | null;
  size: Amount | null;
}

export interface Suggested {
  k: "suggestions";
  v: number;
  name: string;
  note: string;
  cards: Card[];
}

export interface Aim {
  name: string;
  sentence: string;
}

export interface Place {
  device: string;
  title: string;
  engines: string[];
  available: boolean;
  reason: string;
}

export interface Aims {
  k: "strategy";
  v: number;
  current: string;
  choices: Aim[];
  plan: string;
  why: string;
  device: string;
  engine: string;
  places: Place[];
  error: string;
}

export interface Measured {
  metric: string;
  label: string;
  value: Amount;
  ratio: Amount;
  verdict: string;
}

export interface Arm {
  name: string;
  title: string;
  device: string;
  rows: Measured[];
  times: number[];
}

export interface Absent {
  name: string;
  reason: string;
}

export interface Compared {
  k: "compared";
  v: number;
  id: number;
  name: string;
  pairs: number;
  confidence: number;
  reference: Arm;
  arms: Arm[];
  absent: Absent[];
}

export interface Comparing {
  k: "comparing";
  v: number;
  stage: string;
  done: number;
  error: string;
}

export interface Taping {
  k: "recording";
  v: number;
  on: boolean;
  since: number | null;
  saved: string;
  error: string;
}

export interface Do {
  k: "do";
  v: number;
  what: "record" | "stop" | "save" | "open" | "try" | "halt" | "accept" | "undo" | "strategy" | "places" | "device" | "compare";
  arg: string | number;
}
