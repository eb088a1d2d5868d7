// What a Guillemet plugin in JavaScript is written with: a reader of its config that finds everything that
// is wrong with it, and the encoders of wit/feature.wit. Yours to change; it knows nothing of any feature.
import contract from "guillemet:feature/encode@@contract@";

/** The encoders. A `Text` counts as its text; what is no text is told with its place, instead of ending the plugin. */
export const encode = Object.fromEntries(
  Object.entries(contract).map(([name, encoder]) => [
    name,
    (...values) => encoder(...values.map((value, index) => argument(name, value, index))),
  ]),
);

function argument(name, value, index) {
  const text = value instanceof Text ? value.text : value;
  const wanted = (index === 1 && { atMost: "number", escape: "object" }[name]) || "string";
  if (typeof text === wanted && text !== null) return text;
  const found = text === undefined || text === null ? `${text}; is the field absent?` : typeof text;
  throw new TypeError(`encode.${name} takes a ${wanted}, and got ${found}`);
}

// What a plugin writes to the console is shown by `guillemet plugin test`, `check` and `dev`.
const shown = (value) => (typeof value === "string" ? value : (JSON.stringify(value) ?? String(value)));
const log = (...values) => encode.log(values.map(shown).join(" "));
globalThis.console = { log, debug: log, info: log, warn: log, error: log };

// A plugin that asks for the time or a random number is told that there is none, instead of being stopped.
const none = (what) => () => {
  throw new Error(`a plugin has no ${what}`);
};
const noClock = none("clock");
const RealDate = Date;
globalThis.Date = class Date extends RealDate {
  static now = noClock;
  constructor(...args) {
    if (args.length === 0) noClock();
    super(...args);
  }
};
globalThis.performance = { now: noClock };
Math.random = none("random numbers");

/** A JSON document: the host writes it anew, with the escapes of the format. */
export const json = (value) => ({ tag: "json", val: JSON.stringify(value) });

/** A text document: an encoder of such documents goes around every secret in it. */
export const text = (value) => ({ tag: "text", val: value });

/** A table of the config. A wrong field is noted and reads as absent. */
export class Fields {
  #object;
  #path;
  #notes;
  #asked = new Set();

  constructor(object, path, notes) {
    this.#object = object;
    this.#path = path;
    this.#notes = notes;
    notes.tables.push(this);
  }

  /** The path of one of its fields: `auth.token`. */
  path(name) {
    return this.#path === "" ? name : `${this.#path}.${name}`;
  }

  /** Notes what is wrong with a field. */
  problem(name, message, help) {
    this.#notes.note("problems", this.path(name), message, help);
  }

  /** Notes what a person should know about a field. */
  warning(name, message, help) {
    this.#notes.note("warnings", this.path(name), message, help);
  }

  /** Any value. */
  value(name) {
    this.#asked.add(name);
    const value = Object.hasOwn(this.#object, name) ? this.#object[name] : undefined;
    if (value === null) this.problem(name, "has no value", "set a value, or remove the field");
    return value ?? undefined;
  }

  /** Text, never empty. */
  text(name) {
    return this.#text(this.value(name), this.path(name));
  }

  /** Text that must be there. */
  required(name) {
    return this.need(name).text(name);
  }

  /** One of a few words. */
  choice(name, words) {
    const text = this.text(name)?.text;
    if (text === undefined || words.includes(text)) return text;
    this.problem(name, `must be one of ${words.map((word) => `\`${word}\``).join(", ")}`, didYouMean(text, words));
  }

  /** True or false. */
  flag(name) {
    const value = this.value(name);
    if (value === undefined || typeof value === "boolean") return value;
    this.problem(name, "must be true or false", "write it without quotes");
  }

  /** A whole number within bounds. */
  number(name, from, to) {
    const value = this.value(name);
    if (value === undefined || (Number.isInteger(value) && value >= from && value <= to)) return value;
    this.problem(name, `must be a whole number from ${from} to ${to}`);
  }

  /** A list of texts; an absent one is empty. */
  texts(name) {
    const list = this.value(name) ?? [];
    if (!Array.isArray(list)) {
      this.problem(name, "must be a list");
      return [];
    }
    const path = (index) => `${this.path(name)}.${index}`;
    return list.map((value, index) => this.#text(value, path(index))).filter((text) => text !== undefined);
  }

  /** A table whose names are free and whose values are texts, as `[name, text]`; an absent one is empty. */
  entries(name) {
    const entries = Object.entries(this.#tableAt(name) ?? {});
    const path = (key) => `${this.path(name)}.${key}`;
    return entries.map(([key, value]) => [key, this.#text(value, path(key))]).filter(([, text]) => text !== undefined);
  }

  /** A list of tables; an absent one is empty. */
  tables(name) {
    const list = this.value(name) ?? [];
    if (!Array.isArray(list)) {
      this.problem(name, "must be a list of tables");
      return [];
    }
    const isTable = (item) => item !== null && typeof item === "object" && !Array.isArray(item);
    const path = (index) => `${this.path(name)}.${index}`;
    return list.flatMap((item, index) => {
      if (isTable(item)) return [new Fields(item, path(index), this.#notes)];
      this.#notes.note("problems", path(index), "must be a table of fields");
      return [];
    });
  }

  /** Notes a field that is not there. Before any other reader: `config.need("retries").number("retries", 0, 10)`. */
  need(name) {
    if (!Object.hasOwn(this.#object, name)) this.problem(name, "is required");
    return this;
  }

  /** A table of known fields. */
  table(name) {
    const table = this.#tableAt(name);
    return table && new Fields(table, this.path(name), this.#notes);
  }

  /** Notes each field that nobody asked for. */
  finish() {
    for (const name of Object.keys(this.#object)) {
      if (!this.#asked.has(name)) this.problem(name, "unknown field", didYouMean(name, [...this.#asked]));
    }
  }

  #tableAt(name) {
    const value = this.value(name);
    if (value === undefined || (typeof value === "object" && !Array.isArray(value))) return value;
    this.problem(name, "must be a table of fields");
  }

  #text(value, path) {
    if (value === undefined) return undefined;
    if (typeof value === "string" && value !== "") return new Text(value, path, this.#notes);
    if (value === "") this.#notes.note("problems", path, "must not be empty");
    else if (value !== null && typeof value === "object") this.#notes.note("problems", path, "must be text");
    else this.#notes.note("problems", path, "must be text", "put the value in quotes");
  }
}

/** Text of the config: never empty, and it may hold secrets. `${text}` is the text itself. */
export class Text {
  #notes;

  constructor(text, path, notes) {
    this.text = text;
    this.path = path;
    this.#notes = notes;
  }

  toString() {
    return this.text;
  }

  // In a JSON document it is the text, and not an object with its path.
  toJSON() {
    return this.text;
  }

  problem(message, help) {
    this.#notes.note("problems", this.path, message, help);
  }

  warning(message, help) {
    this.#notes.note("warnings", this.path, message, help);
  }

  /** Wants literal text to match. Text with a secret is not known yet and passes. */
  check(pattern, message) {
    if (!encode.hasSecret(this.text) && !pattern.test(this.text)) this.problem(message);
    return this;
  }

  /** Warns where what ought to be a secret is written into the template in the clear. */
  credential() {
    if (!encode.hasSecret(this.text)) {
      const help = 'keep it in the vault and write << secret "name" >> instead';
      this.warning("is written into the template in the clear", help);
    }
    return this;
  }
}

/** Wants an absolute http(s) URL that an HTTP client takes; warns where it is not encrypted. */
export function checkUrl(url) {
  if (encode.hasSecret(url.text)) return;
  const [, scheme, authority] = /^(https?):\/\/([^/?#]*)/i.exec(url.text) ?? [];
  if (scheme === undefined) return url.problem("must be an absolute URL that starts with https:// or http://");
  if (authority === "" || authority.startsWith(":")) url.problem("has no host");
  if (authority.includes("@")) url.problem("must not contain a user or password: HTTP clients reject it; use a header");
  if (!/^[!-~]*$/.test(url.text)) {
    url.problem("must be percent-encoded: it contains a space or a non-ASCII character");
  }
  const loopback = /^(localhost|[^:]*\.localhost|127(\.\d+){3}|\[::1\])(:|$)/i.test(authority);
  if (scheme.toLowerCase() === "http" && !loopback) {
    url.warning("is not encrypted: anyone on the network path can read the secrets in the request");
  }
}

/** What plugin.js exports, as the component's export. */
export function component(feature, version, schema) {
  const { title, secretFields, targets } = feature;
  return {
    describe: () =>
      told(() => ({ feature: feature.feature, title, version, schema: JSON.stringify(schema), secretFields, targets })),
    plan: (config, target) => {
      const notes = new Notes();
      const document = told(() => {
        const fields = new Fields(JSON.parse(config), "", notes);
        const document = feature.plan(fields, target);
        notes.tables.forEach((table) => table.finish());
        // What is wrong with the config may be why there is no document.
        if (notes.problems.length === 0) checkDocument(document, feature.plan);
        return document;
      });
      if (notes.problems.length > 0) throw notes.problems;
      return { document, warnings: notes.warnings };
    },
  };
}

/** Wants what `json` or `text` has made. */
function checkDocument(document, plan) {
  if (["json", "text"].includes(document?.tag) && typeof document.val === "string") return;
  const found = document === undefined ? "nothing" : `${shown(document)?.slice(0, 40)}…, which is no document`;
  const place = plan.lineNumber ? `plugin.js:${plan.lineNumber}` : "plugin.js";
  throw new Error(`plan returned ${found}; end it with \`return json(…)\` or \`return text(…)\` (${place})`);
}

/** Problems make a plan fail; warnings do not. */
class Notes {
  problems = [];
  warnings = [];
  tables = [];

  note(kind, path, message, help) {
    const known = this[kind].some((note) => note.path === path && note.message === message);
    if (!known) this[kind].push({ path, message, help });
  }
}

/** Tells the author what failed, and where. */
function told(call) {
  try {
    return call();
  } catch (error) {
    const places = (error?.stack ?? "").match(/[\w.-]+\.m?js:\d+/g) ?? [];
    const place = places.find((place) => !place.startsWith("guillemet.js")) ?? places[0];
    const message = String(error?.message ?? error);
    // A message that ends with a place of its own keeps it.
    encode.panic(/\([\w.-]+\.js(:\d+)?\)$/.test(message) || !place ? message : `${message} (${place})`);
    throw error;
  }
}

/** The word that was probably meant. */
function didYouMean(word, words) {
  const near = words.map((known) => [distance(word, known), known]).sort(([a], [b]) => a - b)[0];
  return near && near[0] <= 2 && near[0] < near[1].length ? `did you mean \`${near[1]}\`?` : undefined;
}

/** The Levenshtein distance. */
function distance(a, b) {
  if (a.length > 64) return Infinity;
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, x] of [...a].entries()) {
    const next = [i + 1];
    for (const [j, y] of [...b].entries()) {
      next.push(Math.min(row[j] + (x === y ? 0 : 1), row[j + 1] + 1, next[j] + 1));
    }
    row = next;
  }
  return row[b.length];
}
