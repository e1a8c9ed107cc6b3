// What comes from files of strangers: names short and visible, lists that are lists.

const LONGEST = 200;

/** Names of strangers: short, and nothing in them is invisible or turns the text around. */
export function legible(value: unknown, most = LONGEST): string {
  const text = String(value ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, (odd) => `\\u${odd.charCodeAt(0).toString(16).padStart(4, "0")}`);
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** The objects of a list; nothing where it is none. */
export function list(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? (value as Record<string, unknown>[]).filter((each) => typeof each === "object" && each !== null) : [];
}
