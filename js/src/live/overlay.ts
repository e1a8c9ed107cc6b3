// What lies over all strips: the line above them with the lengths of gaps, and the cursor.

import { h, say } from "../page/dom";
import { cursorLabel, span } from "../text/format";
import { LEFT, type Scene } from "./scene";
import { t } from "../text/text";

/** Pixels below which the length of a gap has no room. */
const GAP_LABEL = 34;

/** Where the time axis lies, in CSS pixels. */
export interface Axis {
  left: number;
  right: number;
  /** Left edge of the plots. */
  offset: number;
  width: number;
  window: number;
}

export class Overlay {
  readonly columns: HTMLElement;
  readonly line = h("div", { class: "cml-cur" });
  readonly flag = h("div", { class: "cml-curl" });
  private readonly listed = h("span");
  private readonly shading = h("div", { class: "cml-shading" });
  private readonly shaded = h("span", {}, t("shaded"));
  private labels = "";

  constructor() {
    this.columns = h("div", { class: "cml-colh" }, h("div", {}, h("span", {}, t("largeNow")), this.listed), this.shading);
    this.shading.append(this.shaded);
  }

  /** `before` is how many seconds the cursor lies before the right edge; null where there is none. */
  draw(scene: Scene, axis: Axis, before: number | null): void {
    const place = (moment: number) => axis.left + ((axis.right - axis.left) * (moment - scene.t0)) / axis.window;
    say(this.listed, before === null ? t("listLatest") : t("listAt", cursorLabel(before, axis.window)));
    this.gaps(scene, axis, place);
    this.line.hidden = this.flag.hidden = before === null;
    if (before === null) return;
    const x = place(scene.t1 - before);
    this.line.style.left = `${x}px`;
    this.flag.style.left = `${Math.min(Math.max(x, 34), axis.offset + axis.width - 34)}px`;
    say(this.flag, cursorLabel(before, axis.window));
  }

  private gaps(scene: Scene, axis: Axis, place: (moment: number) => number): void {
    let free = axis.offset ? LEFT + 150 : 10;
    const found: [x: number, text: string][] = [];
    for (const gap of scene.gaps) {
      const middle = Math.round((place(Math.max(gap.t0, scene.t0)) + place(Math.min(gap.t1, scene.t1))) / 2 - axis.offset);
      if (middle - GAP_LABEL < free || middle + GAP_LABEL > axis.width) continue;
      free = middle + GAP_LABEL;
      found.push([middle, t("gapOf", span(gap.t1 - gap.t0))]);
    }
    // Mostly nothing has moved by a pixel: what stands there stays.
    const key = found.join();
    if (key === this.labels) return;
    this.labels = key;
    this.shading.replaceChildren(this.shaded, ...found.map(([x, text]) => h("span", { class: "cml-gl", style: `left:${x}px` }, text)));
  }
}

export interface Pointed {
  /** Seconds before the right edge under an x of the live area; null outside the plots. */
  place(x: number): number | null;
  show(place: number | null): void;
  pin(place: number): void;
}

/** The cursor goes with the pointer; a click pins it, or lets it go. */
export function follow(live: HTMLElement, pointed: Pointed, signal: AbortSignal): void {
  const place = (event: MouseEvent) => pointed.place(event.clientX - live.getBoundingClientRect().left);
  live.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (at !== null) pointed.show(at);
  }, { signal });
  live.addEventListener("pointerleave", () => pointed.show(null), { signal });
  live.addEventListener("click", (event) => {
    const at = place(event);
    if (at !== null) pointed.pin(at);
  }, { signal });
}
