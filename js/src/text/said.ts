// Sentences that the kernel wrote, in the language of the page's reader. Their English is the key, as in gettext;
// what varies in them is a hole. A sentence that no table knows stays as it was written.

import advice from "./sentences/advice.json";
import placement from "./sentences/placement.json";
import plans from "./sentences/plans.json";
import results from "./sentences/results.json";
import sources from "./sentences/sources.json";
import words from "./sentences/words.json";
import { language } from "./text";

const JAPANESE: Record<string, string>[] = [advice, placement, plans, results, sources];
/** A sentence within a sentence within a sentence, and no deeper. */
const DEEPEST = 4;
/** Letters below which a sentence is mostly holes: these must then be known, or single words. */
const FEW = 6;
/** Sentences that are remembered: the same ones are asked for again and again. */
const MOST = 2_000;
/** Sentences in one text, at the most. */
const PIECES = 12;
/** Two words in a row: a name or a list of names has none. */
const WORDS = /\p{L} \p{L}/u;
/** Longer texts are no sentences. */
const LONGEST = 800;

interface Rule {
  /** What stands before, between and behind the holes. */
  parts: string[];
  letters: number;
  translation: string;
}

/** Rules for one language; what they do depends on their tables alone. */
export class Sentences {
  private readonly whole = new Map<string, string>();
  private readonly rules: Rule[] = [];
  private readonly known = new Map<string, string>();

  /** `words` are no sentences: they stand alone, and what is called so within a sentence is somebody's name. */
  constructor(tables: Record<string, string>[], private readonly words: Record<string, string>, private readonly stop: string) {
    for (const [english, translation] of tables.flatMap((table) => Object.entries(table))) {
      const parts = english.split("{}");
      if (parts.length === 1) this.whole.set(english, translation);
      else this.rules.push({ parts, letters: parts.join("").replace(/\s/g, "").length, translation });
    }
    // What says most about a sentence is tried first.
    this.rules.sort((a, b) => b.letters - a.letters);
  }

  /** The translation, as far as there is one. */
  say(text: string): string {
    const before = this.known.get(text);
    if (before !== undefined) return before;
    const found = (Object.hasOwn(this.words, text) ? this.words[text] : this.find(text, DEEPEST)) ?? text;
    if (this.known.size >= MOST) this.known.clear();
    this.known.set(text, found);
    return found;
  }

  /** Null where nothing of it is known. */
  private find(text: string, deep: number, least = 0): string | null {
    if (!text || text.length > LONGEST || deep <= 0) return null;
    // Where sentences were put together, a hole is not to swallow the end of one and all of the next.
    return this.alone(text, deep, least) ?? (least ? null : this.pieces(text, deep)) ?? this.filled(text, deep, least, true);
  }

  private filled(text: string, deep: number, least: number, several: boolean): string | null {
    for (const { parts, letters, translation } of this.rules) {
      if (letters < least) return null;
      const holes = between(text, parts);
      if (!holes || (!several && holes.some((hole) => hole.includes("; ")))) continue;
      // Among few letters only what says more is looked for: each text is taken apart in one way, not in all.
      const few = letters < FEW;
      const told = holes.map((hole) => this.find(hole, deep - 1, few ? FEW : 0));
      if (few && holes.some((hole, i) => told[i] === null && WORDS.test(hole))) continue;
      return translation.replace(/\{(\d)\}/g, (_, place: string) => told[Number(place)] ?? holes[Number(place)] ?? "");
    }
    return null;
  }

  /** Sentences that were put together: `a; b`, or `who: what`. */
  private pieces(text: string, deep: number): string | null {
    const parts = text.split("; ");
    if (parts.length > PIECES) return null;
    for (let n = 1; n < parts.length; n++) {
      const [start, rest] = [parts.slice(0, n).join("; "), parts.slice(n).join("; ")];
      const first = this.alone(start, deep) ?? this.whose(start, deep);
      if (first !== null) return first + this.stop + (this.find(rest, deep) ?? rest);
    }
    const rest = parts.length > 1 ? this.pieces(parts.slice(1).join("; "), deep) ?? this.alone(parts.slice(1).join("; "), deep) : null;
    if (rest !== null) return `${parts[0]}${this.stop}${rest}`;
    return parts.length > 1 ? null : this.whose(text, deep);
  }

  private whose(text: string, deep: number): string | null {
    const at = text.indexOf(": ");
    if (at < 0) return null;
    const [who, what] = [text.slice(0, at), text.slice(at + 2)];
    const told = [this.alone(who, deep - 1), this.find(what, deep - 1)];
    return told.some((piece) => piece !== null) ? `${told[0] ?? who}: ${told[1] ?? what}` : null;
  }

  /** As one sentence. */
  private alone(text: string, deep: number, least = 0): string | null {
    return text && deep > 0 ? this.whole.get(text) ?? this.filled(text, deep, least, false) ?? null : null;
  }
}

/** What fills the holes between the parts, or null; each hole is as short as can be. */
export function between(text: string, parts: string[]): string[] | null {
  const [first, last] = [parts[0] as string, parts[parts.length - 1] as string];
  if (text.length < first.length + last.length || !text.startsWith(first) || !text.endsWith(last)) return null;
  const holes: string[] = [];
  const end = text.length - last.length;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const next = part ? text.indexOf(part, at) : at;
    if (next < 0 || next + part.length > end) return null;
    holes.push(text.slice(at, next));
    at = next + part.length;
  }
  holes.push(text.slice(at, end));
  return holes;
}

/** Chosen once: a page does not change its language. */
const READER = language();
let japanese: Sentences | null = null;

/** A sentence of the kernel in the reader's language. */
export function said(text: string): string {
  if (READER !== "ja") return text;
  japanese ??= new Sentences(JAPANESE, words, "。");
  return japanese.say(text);
}

/** The tables, for tests. */
export const TABLES = JAPANESE;
export const WORDS_JA: Record<string, string> = words;
