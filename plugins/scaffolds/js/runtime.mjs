// The QuickJS that componentize-qjs puts into a component, without its random seed and its clock: what they say while
// the component is made stays in its memory, so every build of the same source would be another file.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// What is taken out, and what takes its place: functions of the same type, which say the same in every build (that
// there are no arguments, that there is no current folder, how fine the clock is).
const REPLACED = [
  ["wasi:random/insecure-seed@0.2.9", "insecure-seed", "wasi:cli/environment@0.2.0", "get-arguments"],
  ["wasi:clocks/wall-clock@0.2.0", "now", "wasi:cli/environment@0.2.0", "initial-cwd"],
  ["wasi:clocks/monotonic-clock@0.2.0", "now", "wasi:clocks/monotonic-clock@0.2.0", "resolution"],
];
const IMPORTS = 2; // the number of a module's section

/** The bytes of the runtime, or undefined if this version of componentize-qjs has another one. */
export function runtime() {
  const require = createRequire(import.meta.url);
  require("componentize-qjs");
  const addon = Object.keys(require.cache).find((file) => file.endsWith(".node"));
  // Of the runtimes in there, the one that is small and not asynchronous is the smallest.
  const found = addon ? modules(readFileSync(addon)).filter(isRuntime) : [];
  return found.length > 0 ? replaced(found.sort((a, b) => a.length - b.length)[0]) : undefined;
}

/** The WebAssembly modules in a file. */
function modules(file) {
  const start = Buffer.from("\0asm\x01\0\0\0", "latin1");
  const found = [];
  for (let at = file.indexOf(start); at >= 0; at = file.indexOf(start, at + 1)) {
    const last = [...sections(file, at)].at(-1);
    if (last) found.push(file.subarray(at, last.end));
  }
  return found;
}

/** The sections of a module, until something else follows. */
function* sections(bytes, module) {
  for (let start = module + 8; start < bytes.length; ) {
    const id = bytes[start];
    const [size, body] = number(bytes, start + 1);
    const end = body + size;
    if (id > 13 || size === 0 || end > bytes.length) return;
    yield { id, start, body, end };
    start = end;
  }
}

const isRuntime = (module) => REPLACED.every(([from, name]) => module.indexOf(pair(from, name)) >= 0);

/** A module with other names in its imports. */
function replaced(module) {
  const parts = [module.subarray(0, 8)];
  for (const { id, start, body, end } of sections(module, 0)) {
    if (id !== IMPORTS) {
      parts.push(module.subarray(start, end));
      continue;
    }
    let imports = module.subarray(body, end);
    for (const [from, name, to, other] of REPLACED) {
      const old = pair(from, name);
      const at = imports.indexOf(old);
      if (at < 0) return undefined;
      imports = Buffer.concat([imports.subarray(0, at), pair(to, other), imports.subarray(at + old.length)]);
    }
    parts.push(Buffer.from([id]), leb(imports.length), imports);
  }
  return Buffer.concat(parts);
}

// An import is its module and its name; a text is its length, and then itself.
const pair = (module, name) => Buffer.concat([text(module), text(name)]);
const text = (value) => Buffer.concat([leb(Buffer.byteLength(value)), Buffer.from(value)]);

/** A number as LEB128. */
function leb(value) {
  const bytes = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Buffer.from([...bytes, value]);
}

/** Reads a number, and where it ends. */
function number(bytes, at) {
  let value = 0;
  for (let shift = 0; shift < 35; shift += 7) {
    const byte = bytes[at++];
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) break;
  }
  return [value, at];
}
