// Reads the part of TOML that the files of contexts use: tables of texts, numbers, truth values and times.
import { ConfigurationError } from "../core/errors.js";

/** A value of a file. Times are texts of ISO 8601. */
export type Value = string | number | boolean;
/** A table, with its tables. */
export type Table = { [key: string]: Value | Table };

const KEY = String.raw`(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')`;
const PATH = new RegExp(String.raw`^${KEY}(?:\s*\.\s*${KEY})*`);
const KEYS = new RegExp(KEY, "g");
const END = /^\s*(?:#.*)?$/;

function unquote(text: string): string {
  if (text.startsWith("'")) return text.slice(1, -1);
  // A basic string of TOML is one of JSON, except for two escapes.
  if (!text.startsWith('"')) return text;
  const json = text.replace(/\\(U[0-9a-fA-F]{8}|e|.)/g, (whole, escape: string) => {
    if (escape === "e") return "\\u001b";
    if (!/^U./.test(escape)) return whole;
    return JSON.stringify(String.fromCodePoint(Number.parseInt(escape.slice(1), 16))).slice(1, -1);
  });
  return JSON.parse(json) as string;
}

/** Returns a value and the rest of the line. */
function readValue(text: string): [Value, string] | undefined {
  const quoted = /^(?:"(?:[^"\\]|\\.)*"|'[^']*')/.exec(text)?.[0];
  if (quoted !== undefined) return [unquote(quoted), text.slice(quoted.length)];
  const bare = /^[^\s#]+(?: \d{2}:[^\s#]+)?/.exec(text)?.[0] ?? "";
  const rest = text.slice(bare.length);
  if (bare === "true" || bare === "false") return [bare === "true", rest];
  if (/^[+-]?\d[\d_]*(\.\d+)?$/.test(bare)) return [Number(bare.replaceAll("_", "")), rest];
  if (/^\d{4}-\d{2}-\d{2}[T ]/.test(bare)) return [bare.replace(" ", "T"), rest];
  return undefined;
}

/** Returns the table at a path, which is created. */
function tableAt(root: Table, path: readonly string[]): Table | undefined {
  let at = root;
  for (const key of path) {
    const next = Object.hasOwn(at, key) ? at[key] : (at[key] = Object.create(null) as Table);
    if (typeof next !== "object") return undefined;
    at = next;
  }
  return at;
}

function readLine(root: Table, table: Table, line: string): Table | undefined {
  const isHeader = line.startsWith("[");
  const text = isHeader ? line.slice(1).trimStart() : line;
  const path = PATH.exec(text)?.[0];
  if (path === undefined) return undefined;
  const keys = (path.match(KEYS) ?? []).map(unquote);
  const rest = text.slice(path.length).trimStart();
  if (isHeader) return rest.startsWith("]") && END.test(rest.slice(1)) ? tableAt(root, keys) : undefined;
  const found = rest.startsWith("=") ? readValue(rest.slice(1).trimStart()) : undefined;
  const last = keys.pop();
  const owner = tableAt(table, keys);
  if (found === undefined || !END.test(found[1]) || last === undefined || owner === undefined) return undefined;
  owner[last] = found[0];
  return table;
}

/** Parses a file. `path` is named in errors; the line is not, since it can be a credential. */
export function parse(text: string, path: string): Table {
  const root = Object.create(null) as Table;
  let table = root;
  for (const [at, line] of text.split(/\r?\n/).entries()) {
    if (END.test(line)) continue;
    let next: Table | undefined;
    try {
      next = readLine(root, table, line.trim());
    } catch {
      next = undefined;
    }
    if (next === undefined) {
      throw new ConfigurationError(path, `line ${at + 1} is not understood; only tables of texts and times are`);
    }
    table = next;
  }
  return root;
}

const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|[+-]\d{2}:\d{2})$/;

function format(value: Value): string {
  if (typeof value !== "string") return String(value);
  return TIME.test(value) ? value : JSON.stringify(value).replaceAll("\x7f", "\\u007f");
}

/** Writes a file. */
export function stringify(table: Table, path: readonly string[] = []): string {
  const lines: string[] = [];
  const tables: string[] = [];
  for (const [key, value] of Object.entries(table)) {
    if (typeof value === "object") tables.push(stringify(value, [...path, key]));
    else lines.push(`${JSON.stringify(key)} = ${format(value)}`);
  }
  const header = path.length > 0 && lines.length > 0 ? [`[${path.map((key) => JSON.stringify(key)).join(".")}]`] : [];
  return [[...header, ...lines].join("\n"), ...tables].filter((part) => part !== "").join("\n\n") + (path.length ? "" : "\n");
}
