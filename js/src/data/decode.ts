// Binary frames -> rows of float64.

import { type Frame, VERSION } from "./messages";

/** The rows of a frame, `width` numbers each (the time first). Throws where header and buffer disagree. */
export function decodeRows(frame: Frame, buffer: DataView | undefined, width: number): Float64Array {
  if (frame.v !== VERSION) throw new Error(`frame version ${frame.v}, this page reads ${VERSION}`);
  const bytes = buffer?.byteLength ?? 0;
  if (bytes !== frame.n * width * 8) {
    throw new Error(`frame ${frame.seq}: ${bytes} bytes for ${frame.n} rows of ${width} numbers`);
  }
  if (!buffer || bytes === 0) return new Float64Array(0);
  // A view may start anywhere in the message: a typed array over it must be aligned, so the bytes are copied.
  return new Float64Array(buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + bytes) as ArrayBuffer);
}

/** Whether a custom message is one of ours. */
export function isFrame(message: unknown): message is Frame {
  const kind = (message as { k?: unknown } | null)?.k;
  return kind === "f" || kind === "h";
}
