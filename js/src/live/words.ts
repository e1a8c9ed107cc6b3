// What a view says: the numbers beside the curves, head and foot, and what is announced to those who hear it.

import { mark, say } from "../page/dom";
import { type Foot, standing } from "./foot";
import type { Head } from "./head";
import type { Look } from "../data/look";
import type { Sheet } from "./sheet";
import type { Store } from "../data/store";
import type { Strip } from "./strip";
import { t, type Text } from "../text/text";

/** Milliseconds between two read-outs: faster, nobody reads them. */
const READ_EVERY = 240;
const SPOKEN_EVERY = 5_000;

interface Parts {
  store: Store;
  root: HTMLElement;
  head: Head;
  foot: Foot;
  strips: Strip[];
  sheet: Sheet;
  status: HTMLElement;
}

/** What of the view decides what is read. */
export interface Seen {
  window: number;
  /** Seconds before the right edge. */
  cursor: number | null;
  pausedAt: number | null;
  view: Text;
}

export class Words {
  private key = "";
  private readAt = -Infinity;
  private spokenAt = -Infinity;
  /** Whether there were numbers when it last spoke. */
  private spoke = false;

  constructor(private readonly parts: Parts) {}

  /** Write all of it the next time. */
  due(): void {
    this.readAt = -Infinity;
  }

  /** Announce where the stream stands the next time. */
  speakSoon(): void {
    this.spokenAt = -Infinity;
  }

  announce(text: string): void {
    say(this.parts.status, text);
  }

  update(look: Look, at: number, seen: Seen): void {
    const { store } = this.parts;
    if (this.isDue(at, seen)) this.read(look, at, seen);
    const first = !this.spoke && store.ring.length > 0;
    if (first || at - this.spokenAt >= SPOKEN_EVERY) this.speak(look, at, seen);
  }

  /** Now and then, and at once where the numbers are those of something else. */
  private isDue(at: number, seen: Seen): boolean {
    const { store, sheet } = this.parts;
    const { state } = store;
    const told = [store.begun, store.gone, store.fault, store.replay, state === null, state?.busy, state?.cell?.id, sheet.shown, store.ring.length > 0];
    const key = [seen.window, seen.cursor, seen.pausedAt, seen.view, ...told].join();
    if (key === this.key && at - this.readAt < READ_EVERY) return false;
    this.key = key;
    this.readAt = at;
    return true;
  }

  private read(look: Look, at: number, { view, window, pausedAt }: Seen): void {
    const { store, root, head, foot, strips, sheet } = this.parts;
    if (view === "live") for (const strip of strips) strip.gutter.update(look);
    const gone = store.replay ?? (store.gone ? t("gone") : store.state ? "" : t("noKernel"));
    mark(root, "data-gone", String(store.gone));
    head.update(store.state, gone, window, pausedAt !== null);
    foot.update(store, at, look.now, window, pausedAt);
    head.tables(sheet.shown);
  }

  private speak(look: Look, at: number, { pausedAt }: Seen): void {
    const { store, strips } = this.parts;
    this.spokenAt = at;
    this.spoke = store.ring.length > 0;
    for (const { box, gutter } of strips) mark(box.lastElementChild as Element, "aria-label", gutter.sentence(look));
    const paused = pausedAt === null ? "" : `${t("paused")}, `;
    const cell = store.state?.cell?.n;
    const words = `${paused}${standing(store, at, true)}`;
    // Only what changed in kind is announced: the numbers would talk without end.
    this.announce(cell === null || cell === undefined ? words : t("inCellSaid", words, cell));
  }
}
