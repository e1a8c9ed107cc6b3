// The widget: everything it draws came with it, so that it needs the kernel only for newer times.

import "../dashboard.css";
import "./inspector.css";

import type { Setter } from "./chunk";
import { plain } from "./chunk";
import { elk } from "./elk";
import { breathe } from "./layout";
import type { Scene, Timed } from "./messages";
import { t } from "./text";
import { View } from "./view";

interface Model {
  get(key: string): unknown;
  on(event: string, callback: (...args: never[]) => void): void;
  off(event: string, callback: (...args: never[]) => void): void;
}

interface Context {
  model: Model;
  el: HTMLElement;
  signal?: AbortSignal;
}

/** What was compressed for the way. */
async function unpacked(data: unknown): Promise<string> {
  const bytes = data instanceof DataView ? new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength) : new Uint8Array(data as ArrayBuffer);
  return new Response(new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

/** The summary for viewers without a kernel stands beside the view: one of both is enough. */
function hide(still: string, root: HTMLElement): void {
  if (!/^[\w-]+$/.test(still)) return;
  const style = document.createElement("style");
  style.textContent = `.jp-OutputArea-child:has(.${still}), .${still} { display: none; }`;
  root.append(style);
}

async function layouter(model: Model, signal: AbortSignal): Promise<{ set: Setter; note: string }> {
  try {
    const made = elk(await unpacked(model.get("layouter")));
    signal.addEventListener("abort", () => made.end());
    return { set: made.set, note: "" };
  } catch (error) {
    return { set: (chunk) => Promise.resolve(plain(chunk)), note: t("rough", String(error).slice(0, 80)) };
  }
}

export default {
  async render({ model, el, signal }: Context): Promise<() => void> {
    const ending = new AbortController();
    signal?.addEventListener("abort", () => ending.abort());
    const scene = JSON.parse(await unpacked(model.get("scene"))) as Scene;
    await breathe();
    const { set, note } = await layouter(model, ending.signal);
    const view = new View(scene, set, note, el, ending.signal);
    hide(String(model.get("still") ?? ""), view.root);
    const newer = () => {
      for (const [number, told] of Object.entries((model.get("timed") ?? {}) as Record<string, Timed>)) view.timed(Number(number), told);
    };
    newer();
    model.on("change:timed", newer);
    ending.signal.addEventListener("abort", () => model.off("change:timed", newer));
    void view.open();
    return () => ending.abort();
  },
};
