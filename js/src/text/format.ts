// Numbers as people read them: three significant digits, a fitting unit, U+2212, no-break spaces; never a false zero.

import { t } from "./text";

const MINUS = "\u2212";
const NARROW = "\u202f";

export const NO_SAMPLE = t("noSample");
/** What stands before the decimals where the reader lives. */
const POINT = pointOf(typeof document === "undefined" ? "en" : navigator.language);

export interface Scale {
  divisor: number;
  unit: string;
}

const SCALES: Record<string, Scale[]> = {
  s: [{ divisor: 1e-6, unit: "µs" }, { divisor: 1e-3, unit: "ms" }, { divisor: 1, unit: "s" }],
  By: [
    { divisor: 1, unit: "B" }, { divisor: 1e3, unit: "kB" }, { divisor: 1e6, unit: "MB" },
    { divisor: 1e9, unit: "GB" }, { divisor: 1e12, unit: "TB" },
  ],
  W: [{ divisor: 1e-3, unit: "mW" }, { divisor: 1, unit: "W" }, { divisor: 1e3, unit: "kW" }],
  J: [{ divisor: 1e-3, unit: "mJ" }, { divisor: 1, unit: "J" }, { divisor: 1e3, unit: "kJ" }],
  "1": [{ divisor: 0.01, unit: "%" }],
  Cel: [{ divisor: 1, unit: "°C" }],
  "{request}": [{ divisor: 1, unit: t("requests") }],
  Hz: [{ divisor: 1, unit: "/s" }],
  "{core}": [{ divisor: 1, unit: t("cores") }],
};

/** The unit in which `value` reads best. */
export function fitting(value: number, unit: string): Scale {
  const scales = SCALES[unit] ?? [{ divisor: 1, unit }];
  const size = Math.abs(value);
  let best = scales[0] as Scale;
  for (const scale of scales) if (size >= scale.divisor * 0.9995) best = scale;
  return size === 0 && unit === "s" ? { divisor: 1, unit: "s" } : best;
}

function pointOf(locale: string): string {
  try {
    return new Intl.NumberFormat(locale).formatToParts(1.5).find((part) => part.type === "decimal")?.value ?? ".";
  } catch {
    return ".";
  }
}

/** Thousands apart, U+2212 for minus, the given number of decimals after the reader's own sign; `short` leaves out zeros at the end. */
export function fixed(value: number, decimals: number, short = false, point = POINT): string {
  let [whole = "", rest = ""] = Math.abs(value).toFixed(decimals).split(".");
  if (short) rest = rest.replace(/0+$/, "");
  const some = /[1-9]/.test(whole + rest);
  if (whole.length > 3) whole = whole.replace(/\B(?=(\d{3})+$)/g, NARROW);
  return (value < 0 && some ? MINUS : "") + whole + (rest ? point + rest : "");
}

/** Three significant digits at most, no exponent; what two decimals would make zero keeps one. */
export function digits(value: number): string {
  return fixed(value, decimals(value));
}

/** The same without zeros at the end, as axes write it. */
export function brief(value: number): string {
  return fixed(value, decimals(value), true);
}

function decimals(value: number): number {
  const size = Math.abs(value);
  if (size > 0 && size < 0.005) return Math.min(9, Math.ceil(-Math.log10(size)));
  return size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
}

/** Two significant digits: more would claim to know what an estimate does not. */
export function rough(value: number): string {
  const rounded = Number(value.toPrecision(2));
  const size = Math.abs(rounded);
  return fixed(rounded, size >= 10 ? 0 : size >= 1 ? 1 : 2);
}

/** A value and its unit, or the words that there is none. */
export function show(value: number, unit: string): string {
  if (!Number.isFinite(value)) return NO_SAMPLE;
  const scale = fitting(value, unit);
  return `${digits(value / scale.divisor)} ${scale.unit}`;
}

/** Both edges of an estimate in one unit, marked as such. */
export function between(low: number, high: number, unit: string): string {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return NO_SAMPLE;
  const scale = fitting(high, unit);
  return `≈ ${rough(low / scale.divisor)}–${rough(high / scale.divisor)} ${scale.unit}`;
}

/** A count, thousands apart. */
export function count(value: number): string {
  return fixed(value, 0);
}

/** Seconds before now, as the time axis writes them. */
export function ago(seconds: number, window: number): string {
  if (seconds === 0) return t("nowTick");
  return window <= 60 ? `${MINUS}${plain(seconds)} s` : `${MINUS}${plain(seconds / 60)} min`;
}

/** Seconds before now with a tenth, as the cursor writes them. */
export function cursorLabel(seconds: number, window: number): string {
  if (window <= 60) return `${MINUS}${fixed(seconds, 1)} s`;
  const minutes = Math.floor(seconds / 60);
  const rest = Math.floor(seconds % 60);
  return minutes ? `${MINUS}${minutes} min ${rest} s` : `${MINUS}${rest} s`;
}

/** A length of time, shortly: 2.4 s, 3 min. */
export function span(seconds: number): string {
  if (seconds < 60) return `${fixed(seconds, seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${fixed(seconds / 60, 1)} min`;
  return `${fixed(seconds / 3600, 1)} h`;
}

function plain(value: number): string {
  return fixed(value, Number.isInteger(value) ? 0 : 1);
}

/** The smallest of 1, 2, 3, 4, 5, 6, 8, 10 times a power of ten that is not below `value`. */
export function nice(value: number): number {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  for (const step of [1, 2, 3, 4, 5, 6, 8, 10]) if (value <= step * power * 1.0001) return step * power;
  return 10 * power;
}
