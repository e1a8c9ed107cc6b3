// Foot of the dashboard: is it live, how old is the last sample, what is missing, and what the marks mean.

import { h, mark, say } from "../page/dom";
import { count, span } from "../text/format";
import { provenanceMark, PROVENANCES } from "../page/icons";
import type { Store } from "../data/store";
import { t } from "../text/text";

/** Seconds without a frame after which a busy kernel's stream is called stale. */
const STALE = 2;

export class Foot {
  readonly element: HTMLElement;
  private readonly live = h("span", { class: "cml-on" });
  private readonly age = h("span");
  private readonly gaps = h("span");
  private readonly dropped = h("span");
  private readonly behind = h("span");
  private readonly fault = h("span", { class: "cml-w" });

  constructor() {
    const keys = PROVENANCES.map((name) => h("span", { class: "cml-key" }, provenanceMark(name), t(name)));
    this.element = h("footer", { class: "cml-ft" }, this.live, this.age, this.gaps, this.dropped, this.behind, this.fault,
      h("span", { class: "cml-sp" }), h("span", { class: "cml-pk", role: "group", "aria-label": t("marks") }, ...keys));
  }

  update(store: Store, at: number, now: number, window: number, pausedAt: number | null): void {
    say(this.live, `● ${standing(store, at)}`);
    say(this.age, age(store, at));
    const shown = store.gaps.filter((g) => g.t1 > now - window && g.t0 < now);
    const length = shown.reduce((sum, g) => sum + g.t1 - g.t0, 0);
    say(this.gaps, shown.length > 1 ? t("manyGaps", shown.length, span(length)) : shown.length ? t("oneGap", span(length)) : t("noGaps"));
    mark(this.gaps, "title", t("gapWhy"));
    const missed = store.dropped + store.lost;
    say(this.dropped, missed ? t("droppedOf", count(missed), count(store.ring.next)) : t("dropped"));
    mark(this.dropped, "class", missed ? "cml-dropped cml-w" : "cml-dropped");
    mark(this.dropped, "title", t("droppedWhy"));
    const frames = pausedAt === null ? 0 : store.ring.length - store.ring.lower(pausedAt + 1e-9);
    say(this.behind, pausedAt === null ? "" : t("behind", count(frames)));
    this.behind.hidden = pausedAt === null;
    say(this.fault, store.fault);
    this.fault.hidden = !store.fault;
  }
}

/** Where the stream stands, in words; briefly without what changes all the time. */
export function standing(store: Store, at: number, brief = false): string {
  if (store.replay !== null) return store.replay;
  if (store.gone) return t("goneLast");
  if (!store.state) return t("waitKernel");
  const silence = (at - store.heard) / 1000;
  const { busy } = store.state;
  if (silence > Math.max(STALE, store.every * 3)) {
    if (brief) return t(busy ? "noFramesNow" : "notStreamingNow");
    return t(busy ? "noFrames" : "notStreaming", span(silence));
  }
  if (brief) return t(busy ? "liveNow" : "idle");
  const rate = store.rate(at);
  return t(busy ? "livePace" : "idlePace", rate >= 1.5 ? `${Math.round(rate)} Hz` : "1 Hz");
}

function age(store: Store, at: number): string {
  const newest = store.newest;
  if (store.replay !== null) return "";
  if (Number.isNaN(newest)) return t("noSampleYet");
  return t("age", span(Math.max(0, store.now(at) - newest)));
}
