// Foot of the dashboard: is it live, how old is the last sample, what is missing, and what the marks mean.

import { h, mark, say } from "./dom";
import { count, span } from "./format";
import { provenanceMark, PROVENANCES } from "./icons";
import type { Store } from "./store";

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
    const keys = PROVENANCES.map((name) => h("span", { class: "cml-key" }, provenanceMark(name), name));
    this.element = h("footer", { class: "cml-ft" }, this.live, this.age, this.gaps, this.dropped, this.behind, this.fault,
      h("span", { class: "cml-sp" }), h("span", { class: "cml-pk", role: "group", "aria-label": "How numbers come to be" }, ...keys));
  }

  update(store: Store, at: number, now: number, window: number, pausedAt: number | null): void {
    say(this.live, `● ${standing(store, at)}`);
    say(this.age, age(store, at));
    const shown = store.gaps.filter((g) => g.t1 > now - window && g.t0 < now);
    const length = shown.reduce((sum, g) => sum + g.t1 - g.t0, 0);
    say(this.gaps, shown.length ? `${shown.length} gap${shown.length === 1 ? "" : "s"}, ${span(length)}` : "no gaps");
    mark(this.gaps, "title", "Nothing was sampled there: the sampler was late, stopped or restarted.");
    const missed = store.dropped + store.lost;
    say(this.dropped, missed ? `dropped ${count(missed)} of ${count(store.ring.next)}` : "dropped 0");
    mark(this.dropped, "class", missed ? "cml-dropped cml-w" : "cml-dropped");
    mark(this.dropped, "title", "Samples that were taken and did not reach this page.");
    const frames = pausedAt === null ? 0 : store.ring.length - store.ring.lower(pausedAt + 1e-9);
    say(this.behind, pausedAt === null ? "" : `paused, ${count(frames)} samples behind`);
    this.behind.hidden = pausedAt === null;
    say(this.fault, store.fault);
    this.fault.hidden = !store.fault;
  }
}

/** Where the stream stands, in words. */
export function standing(store: Store, at: number): string {
  if (store.replay !== null) return store.replay;
  if (store.gone) return "kernel gone, last values";
  if (!store.state) return "waiting for the kernel";
  const silence = (at - store.heard) / 1000;
  if (silence > Math.max(STALE, store.every * 3)) {
    return store.state.busy ? `no frames for ${span(silence)}` : `idle, not streaming for ${span(silence)}`;
  }
  const rate = store.rate(at);
  const pace = rate >= 1.5 ? `${Math.round(rate)} Hz` : "1 Hz";
  return store.state.busy ? `live, ${pace}` : `idle, ${pace}`;
}

function age(store: Store, at: number): string {
  const newest = store.newest;
  if (store.replay !== null) return "";
  if (Number.isNaN(newest)) return "no sample yet";
  return `sample ${span(Math.max(0, store.now(at) - newest))} old`;
}
