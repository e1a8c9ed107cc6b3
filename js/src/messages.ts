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
