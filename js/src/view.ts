// One view of a store: puts strips, head and foot together and draws them, at most once per animation frame.

import { Compare } from "./views/compare";
import { Desk } from "./data/desk";
import { apart } from "./page/apart";
import { h, mark } from "./page/dom";
import { Foot } from "./live/foot";
import { Head, neuralNote, WINDOWS } from "./live/head";
import { listen } from "./page/keys";
import { Lane } from "./live/lane";
import { Operations } from "./views/operations";
import type { Player } from "./files/player";
import { Recording } from "./views/recording";
import { Look } from "./data/look";
import { type Axis, follow, Overlay } from "./live/overlay";
import { strips } from "./live/panels";
import { columnsOf, scaleOf } from "./live/plot";
import { LEFT, LEFT_NARROW, RIGHT, type Scene, within } from "./live/scene";
import { Sheet } from "./live/sheet";
import type { Store } from "./data/store";
import { type Strip, strip as stripOf } from "./live/strip";
import { Strategy } from "./views/strategy";
import { Suggestions } from "./views/suggestions";
import { type Panel, Tabs } from "./page/tabs";
import { t, type Text } from "./text/text";
import { readTheme, type Theme, watchTheme } from "./page/theme";
import { Timeline } from "./views/timeline";
import { Words } from "./live/words";
import type { About, Chip } from "./data/messages";

const GUTTER = 216;
const NARROW = 640;
const BEAT = 5_000;
const STILL_EVERY = 1_000;
const NOTHING = { key: "", edge: NaN, next: NaN };

export interface Facts {
  about: Partial<About>;
  chips: Chip[];
}

export class View {
  readonly root: HTMLElement;
  private readonly head: Head;
  private readonly foot = new Foot();
  private readonly lane = new Lane();
  private readonly strips: Strip[];
  private readonly live = h("div", { class: "cml-live" });
  private readonly over = new Overlay();
  private readonly sheet: Sheet;
  private readonly memo = new Map<string, { t: number; value: number }>();
  private window = 60;
  /** Seconds before the right edge. */
  private cursor: number | null = null;
  private pinned = false;
  /** Kernel time at which the view stands still. */
  private pausedAt: number | null = null;
  private narrow = false;
  private width = 0;
  /** Canvas pixels per CSS pixel. */
  private scale = NaN;
  /** Width of the strips. */
  private inner = 0;
  private dirty = true;
  /** The frame that was asked for, or 0. */
  private frame = 0;
  private visible = true;
  private drawnAt = -Infinity;
  private readonly words: Words;
  private readonly tabs: Tabs;
  private readonly timeline: Timeline;
  private readonly operations: Operations;
  private readonly panels: Panel[];
  /** The view before Record was opened: what an export shows. */
  private seen: Text = "live";
  /** Built while it was hidden, so without measures. */
  private stale = false;
  private theme: Theme | null = null;
  /** What the curves were drawn for last. */
  private plotted = NOTHING;
  /** The recording of the kernel that was opened for replay last. */
  private opened: unknown = null;
  private readonly still = matchMedia("(prefers-reduced-motion: reduce)");

  /** `past` is whether it shows a tape: then it has neither suggestions nor a recorder. */
  constructor(
    private readonly store: Store, private readonly desk: Desk, private readonly facts: () => Facts, private readonly host: HTMLElement,
    private readonly signal: AbortSignal, past = false, detached = false,
  ) {
    this.head = new Head({ window: (s) => this.setWindow(s), pause: () => this.pause(), table: () => this.table(), apart: past || detached ? null : (tab) => this.apart(tab) });
    this.strips = strips(store.schema, neuralNote(facts().chips)).map((spec) => stripOf(spec, store));
    const laneRow = h("div", { class: "cml-row" }, this.lane.gutter, this.lane.element);
    this.live.append(...this.strips.map((s) => s.box), laneRow, this.over.line, this.over.flag);
    this.sheet = new Sheet(this.strips.map((s) => s.spec), store);
    this.timeline = new Timeline(desk, () => neuralNote(facts().chips));
    this.operations = new Operations(desk, (place) => { this.tabs.show("timeline"); this.timeline.choose(place); });
    const strip: Panel = { id: "live", element: h("div", {}, this.over.columns, this.live, this.sheet.element), update: () => {} };
    this.panels = [strip, this.timeline, this.operations, ...(past ? [] : this.kernelPanels(facts))];
    this.tabs = new Tabs(this.panels, this.head.controls, () => this.turned());
    const status = h("p", { class: "cml-hidden", role: "status" });
    this.root = h("section", {
      class: "cml", role: "region", "aria-label": t(past ? "replayName" : "dashboardName"), tabindex: "0",
      "data-lm-suppress-shortcuts": "true",
    }, this.head.element, this.tabs.element, ...this.panels.map((panel) => panel.element), this.foot.element, status);
    this.words = new Words({ store, root: this.root, head: this.head, foot: this.foot, strips: this.strips, sheet: this.sheet, status });
    this.retell();
    host.append(this.root);
    this.connect(signal);
  }

  /** The model or its devices changed. */
  readonly retell = (): void => {
    const { about, chips } = this.facts();
    this.head.about(about, chips);
  };

  /** Whether somebody can see it, here or in a window of its own. */
  get watched(): boolean {
    return [this.page, ...this.others].some((page) => page.visibilityState === "visible");
  }

  private readonly others = new Set<Document>();

  private get page(): Document { return this.host.ownerDocument; }
  private get screen(): Window & typeof globalThis { return this.page.defaultView ?? window; }

  /** The same once more in a window or tab of its own. */
  private apart(tab: boolean): void {
    const name = `${this.facts().about.name ?? "coreml_lab"} · coreml_lab`;
    const opened = apart(this.root, name, tab, (host, ending) => {
      this.others.add(host.ownerDocument);
      new View(this.store, this.desk, this.facts, host, ending, false, true);
      // The notebook's own timers are slow while its tab is hidden.
      const beat = host.ownerDocument.defaultView?.setInterval(this.store.beat, BEAT);
      ending.addEventListener("abort", () => { this.others.delete(host.ownerDocument); host.ownerDocument.defaultView?.clearInterval(beat); });
    }, this.signal);
    if (!opened) this.words.announce(t("blocked"));
  }

  private table(): void {
    this.tabs.show("live");
    this.sheet.toggle();
    this.soon();
  }

  private kernelPanels(facts: () => Facts): Panel[] {
    const shown = {
      store: this.store, name: () => facts().about.name ?? "coreml_lab",
      picture: <T>(make: (root: HTMLElement) => T): T => {
        this.tabs.show(this.seen);
        this.draw(performance.now());
        try { return make(this.root); } finally { this.tabs.show("record"); }
      },
    };
    const replay = (player: Player, host: HTMLElement, until: AbortSignal) => {
      const desk = new Desk(() => {});
      if (player.tape.recorded) desk.recordings = [player.tape.recorded];
      const view = new View(player.store, desk, () => ({ about: { name: player.tape.name }, chips: [] }), host, AbortSignal.any([until, this.signal]), true);
      // The shortest window that holds all of it.
      const length = player.last - player.first;
      view.setWindow((WINDOWS.find(([seconds]) => seconds >= length) ?? WINDOWS[WINDOWS.length - 1] as (typeof WINDOWS)[number])[0]);
    };
    const recording = new Recording(this.desk, shown, replay);
    this.signal.addEventListener("abort", () => recording.leave());
    return [new Compare(this.desk), new Suggestions(this.desk), recording, new Strategy(this.desk)];
  }

  /** Another view is shown. */
  private turned(): void {
    // The tabs are made in the constructor, and turn to the first view at once.
    const tabs = this.tabs as Tabs | undefined;
    if (!tabs) return;
    if (tabs.shown !== "record") this.seen = tabs.shown;
    this.head.controls.hidden = tabs.shown !== "live";
    if (tabs.shown === "live" && this.stale) this.rebuild();
    this.plotted = NOTHING;
    this.refresh();
    this.soon();
  }

  /** What the kernel tells besides the stream has changed, or a view was opened. */
  private refresh(): void {
    this.panels.find((panel) => panel.id === this.tabs.shown)?.update();
    if (this.tabs.shown === "timeline" && this.theme) this.timeline.layout(this.theme, this.inner, this.narrow);
    const { desk } = this;
    this.head.strategy(desk.aims, desk.waiting.has("strategy"), (name) => desk.ask("strategy", name));
    this.tabs.count("suggestions", desk.suggested?.cards.filter((card) => card.state === "new" || card.state === "awaits").length ?? 0);
    this.tabs.count("compare", desk.recordings.length > 1 ? desk.recordings.length : 0);
    // A recording that came to be replayed opens where it can be seen.
    if (desk.past && desk.past !== this.opened) {
      this.opened = desk.past;
      this.tabs.show("record");
    }
  }

  private connect(signal: AbortSignal): void {
    const soon = () => this.soon();
    const off = this.store.onChange(soon);
    const offDesk = this.desk.onChange(() => this.refresh());
    this.opened = this.desk.past;
    this.refresh();
    const { screen } = this;
    const size = new screen.ResizeObserver(() => this.layout());
    size.observe(this.root);
    const sight = new screen.IntersectionObserver((entries) => {
      this.visible = entries[entries.length - 1]?.isIntersecting ?? true;
      this.soon();
    });
    sight.observe(this.root);
    watchTheme(() => this.rebuild(), signal);
    this.page.addEventListener("visibilitychange", () => { this.words.due(); this.soon(); }, { signal });
    // The clock runs on between frames: ages, and curves that wait for a kernel that is silent.
    const clock = screen.setInterval(soon, 500);
    listen(this.root, {
      moveCursor: (share) => this.moveCursor(share), clearCursor: () => this.clearCursor(),
      pause: () => this.pause(), changeWindow: (step) => this.changeWindow(step),
      pick: (number) => this.tabs.pick(number), find: () => this.find(), table: () => this.table(),
    }, signal);
    follow(this.live, {
      place: (x) => {
        const { left, right } = this.axis();
        const share = (x - left) / (right - left);
        return share >= 0 && share <= 1 ? (1 - share) * this.window : null;
      },
      show: (place) => { if (!this.pinned) this.setCursor(place); },
      pin: (place) => { this.pinned = !this.pinned; this.setCursor(place); },
    }, signal);
    signal.addEventListener("abort", () => {
      off(); offDesk(); size.disconnect(); sight.disconnect(); screen.clearInterval(clock); screen.cancelAnimationFrame(this.frame);
      this.root.remove();
    });
  }

  private axis(): Axis {
    const offset = this.narrow ? 0 : GUTTER;
    return { left: this.narrow ? LEFT_NARROW : GUTTER + LEFT, right: this.inner - RIGHT, offset, width: this.plotWidth(), window: this.window };
  }

  private find(): void {
    if (this.tabs.shown === "timeline") { this.timeline.search.focus(); return; }
    this.tabs.show("operations");
    this.operations.search.focus();
  }

  setWindow(seconds: number): void {
    if (this.cursor !== null) this.cursor = Math.min(this.cursor, seconds);
    this.window = seconds;
    this.soon();
  }

  private changeWindow(step: -1 | 1): void {
    const place = WINDOWS.findIndex(([seconds]) => seconds === this.window);
    const next = WINDOWS[place + step];
    if (next) this.setWindow(next[0]);
  }

  pause(): void {
    this.pausedAt = this.pausedAt === null ? this.edge(performance.now()) : null;
    this.words.speakSoon();
    this.soon();
  }

  private setCursor(before: number | null): void {
    this.cursor = before;
    this.soon();
  }

  private clearCursor(): void {
    this.pinned = false;
    this.setCursor(null);
  }

  private moveCursor(share: number): void {
    this.pinned = true;
    const from = this.cursor ?? 0;
    this.setCursor(Math.min(this.window, Math.max(0, from - share * this.window)));
  }

  /** Kernel time at the right edge. */
  private edge(at: number): number {
    if (this.pausedAt !== null) return this.pausedAt;
    if (this.store.replay !== null) return this.store.replayAt;
    if (this.store.gone) return this.store.newest;
    return this.store.now(at);
  }

  private layout(): void {
    const width = this.root.clientWidth;
    if (!width || width === this.width) return;
    const narrow = width < NARROW;
    const rebuild = narrow !== this.narrow || this.width === 0;
    this.width = width;
    this.narrow = narrow;
    // The strips have the whole width within the border; asking them in every frame would cost a layout each time.
    this.inner = width;
    if (rebuild) this.rebuild();
    else if (this.tabs.shown !== "live") this.stale = true;
    else this.resize(scaleOf(this.host));
    this.plotted = NOTHING;
    this.refresh();
    this.soon();
  }

  private resize(scale: number): void {
    this.scale = scale;
    this.plotted = NOTHING;
    this.strips.forEach((s) => s.plots.forEach((p) => p.resize(this.plotWidth())));
  }

  private plotWidth(): number {
    return Math.max(120, this.narrow ? this.inner : this.inner - GUTTER);
  }

  /** Colours or layout changed: they are built into the plots. */
  private rebuild(): void {
    if (!this.root.isConnected || !this.width) return;
    const theme = readTheme(this.root);
    this.scale = scaleOf(this.host);
    this.plotted = NOTHING;
    this.theme = theme;
    mark(this.root, "data-narrow", String(this.narrow));
    this.stale = this.tabs.shown !== "live";
    if (this.stale) { this.refresh(); return; }
    for (const { plots, gutter } of this.strips) {
      const wanted = gutter.element.offsetHeight - plots.reduce((sum, plot) => sum + plot.spec.height, plots.length - 1);
      plots.forEach((plot, i) => {
        plot.build(this.plotWidth(), this.narrow, theme, i === plots.length - 1 ? Math.max(0, wanted) : 0);
      });
    }
    this.soon();
  }

  /** Draw in the next frame; frames are asked for only where there is something to draw. */
  private soon(): void {
    this.dirty = true;
    if (!this.frame && !this.signal.aborted) this.frame = this.screen.requestAnimationFrame(() => { this.frame = 0; this.tick(); });
  }

  private tick(): void {
    if (!this.dirty || !this.root.isConnected || !this.visible || !this.width) return;
    if (this.page.visibilityState !== "visible") return;
    const at = performance.now();
    if (this.still.matches && at - this.drawnAt < STILL_EVERY && this.cursor === null) return;
    this.dirty = false;
    this.drawnAt = at;
    this.draw(at);
  }

  private draw(at: number): void {
    const known = this.edge(at);
    const now = Number.isNaN(known) ? 0 : known;
    // The right edge goes from pixel to pixel: so pictures can be moved, and their grid stands still.
    const scale = scaleOf(this.host);
    if (scale !== this.scale) this.resize(scale);
    const step = this.window / columnsOf(this.plotWidth(), this.narrow, scale);
    const scene = within(this.store, Math.ceil(now / step - 1e-6) * step, this.window, this.narrow);
    const cursor = this.cursor === null ? null : now - this.cursor;
    const look = new Look(this.store, now, cursor, this.memo);
    this.words.update(look, at, { window: this.window, cursor: this.cursor, pausedAt: this.pausedAt, view: this.tabs.shown });
    if (this.tabs.shown === "live") {
      if (this.moved(scene, step)) for (const strip of this.strips) for (const plot of strip.plots) plot.draw(scene, this.plotted.key);
      this.lane.draw(scene, this.plotWidth(), this.narrow, cursor === null ? null : scene.t1 - (now - cursor));
    } else if (this.tabs.shown === "record") this.refresh();
    if (this.tabs.shown === "live") {
      this.over.draw(scene, this.axis(), this.cursor);
      this.sheet.update(look, this.window, at);
    }
    const { sent, newest } = this.store;
    this.host.dispatchEvent(new CustomEvent("cml:drawn", { detail: { next: this.store.ring.next, newest, sent } }));
  }

  /** Whether the curves look different: an hour moves by a pixel every few seconds, and is drawn no more often. */
  private moved(scene: Scene, step: number): boolean {
    const { store } = this;
    const [cell, incident] = [store.cells[store.cells.length - 1], store.incidents[store.incidents.length - 1]];
    const key = [this.window, cell?.id, cell?.t1, incident?.id, store.lost, store.begun].join();
    const [edge, next] = [scene.t1, store.ring.next];
    const late = next !== this.plotted.next && (this.pausedAt !== null || step < store.schema.interval);
    const same = key === this.plotted.key && edge === this.plotted.edge && !late;
    if (!same) this.plotted = { key, edge, next };
    return !same;
  }
}
