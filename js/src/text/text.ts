// Texts in the language of the page's reader, as far as we have it.

import { EN, METRICS_EN } from "./english";
import { JA, METRICS_JA } from "./japanese";
import type { Column } from "../data/messages";

export type Text = keyof typeof EN;

const TABLES: Record<string, Record<Text, string>> = { en: EN, ja: JA };
const METRICS: Record<string, Record<string, string>> = { en: METRICS_EN, ja: METRICS_JA };

/** The language of the page's host, as far as we have it. */
export function language(): string {
  if (typeof document === "undefined") return "en";
  const wanted = document.documentElement.lang || navigator.language || "en";
  const short = wanted.slice(0, 2).toLowerCase();
  // JupyterLab writes lang="en" whatever the reader's language is: the browser's own comes before that.
  const own = (navigator.language || "en").slice(0, 2).toLowerCase();
  return short !== "en" && short in TABLES ? short : own in TABLES ? own : "en";
}

/** Chosen once: a page does not change its language. */
const LANGUAGE = language();

/** A text in the host's language, with `{0}`, `{1}` filled in. */
export function t(key: Text, ...values: (string | number)[]): string {
  const text = TABLES[LANGUAGE]?.[key] ?? EN[key];
  return values.length ? text.replace(/\{(\d)\}/g, (_, place: string) => String(values[Number(place)] ?? "")) : text;
}

/** What a column is called: by the kernel, or in the reader's language where we know it. */
export function labelOf(column: Pick<Column, "name" | "label">): string {
  const [family, part] = column.name.split("/");
  const known = METRICS[LANGUAGE]?.[family ?? ""];
  return known ? [known, part].filter(Boolean).join(" ") : column.label;
}

/** The tables, for a test that no language lacks a text. */
export const LANGUAGES = { EN, JA };
