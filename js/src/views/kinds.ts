// Which colour a device or an operation has: colour means device, everywhere; weight of tint means family.

import type { OpRow } from "../data/messages";
import type { Role } from "../page/theme";

export type Kind = "cpu" | "gpu" | "ane" | "transfer";

export function kindOf(row: { op: string; device: string }): Kind {
  if (row.op === "[transfer]") return "transfer";
  if (/^(cuda|metal|opencl|gpu)/i.test(row.device)) return "gpu";
  return /^(ne|ane)\b/i.test(row.device) ? "ane" : "cpu";
}

export const COLOUR: Record<Kind, Role> = { cpu: "cpu", gpu: "gpu", ane: "ane", transfer: "move" };

/** How dark an operation is drawn: products, then windows and reductions, then what works element by element. */
export function weight(op: string): number {
  if (op === "[transfer]" || /conv|linear|matmul|einsum|lstm|gru|rnn|attention/.test(op)) return 1;
  if (/pool|norm|reduce|softmax|resize|upsample|topk|sort/.test(op)) return 0.65;
  return 0.38;
}

/** Engine and device of an operation, as a lane's title. */
export function laneOf(row: OpRow): string {
  return `${row.device} · ${row.engine}`;
}
