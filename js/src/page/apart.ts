// A view in a window of its own: the same store, drawn there as well.

import { readRoles, sheetText } from "../files/picture";
import { watchTheme } from "./theme";

const SIZE = "popup,width=1120,height=900";

/** Open a window (or a tab) and let `show` fill it; ends with either page. Returns whether the browser let it open. */
export function apart(root: HTMLElement, title: string, tab: boolean, show: (host: HTMLElement, signal: AbortSignal) => void, until: AbortSignal): boolean {
  const other = window.open("", "_blank", tab ? "" : SIZE);
  if (!other) return false;
  const { document: page } = other;
  page.title = title;
  page.documentElement.lang = document.documentElement.lang;
  const style = page.createElement("style");
  const ground = page.createElement("style");
  style.textContent = `${sheetText()}\nbody { margin: 0; background: var(--jp-layout-color1, Canvas); } .cml { border: 0; min-height: 100vh; }`;
  page.head.append(ground, style);
  const ending = new AbortController();
  const end = () => ending.abort();
  // The host's colours are its own page's: they are written out, and again when they change.
  const colours = () => { ground.textContent = `:root { ${readRoles(root)} }`; };
  colours();
  watchTheme(colours, ending.signal);
  const host = page.createElement("div");
  page.body.append(host);
  show(host, ending.signal);
  other.addEventListener("pagehide", end, { signal: ending.signal });
  window.addEventListener("pagehide", end, { signal: ending.signal });
  until.addEventListener("abort", end, { signal: ending.signal });
  ending.signal.addEventListener("abort", () => other.close());
  return true;
}
