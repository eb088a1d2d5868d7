// Reads INI files with npm's own parser, the package `ini` that npm brings along.
//
// Reads one line of JSON, a list of the texts of files, and writes one: what each of them holds, as text by path, with
// null for what is not text. Ends with 3 where npm is not there.

import { readFileSync, realpathSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";

function parser() {
  for (const folder of process.env.PATH.split(delimiter)) {
    try {
      return createRequire(realpathSync(join(folder, "npm")))("ini").parse;
    } catch {
      continue;
    }
  }
  process.exit(3);
}

function flat(tree, path, out) {
  for (const [name, value] of Object.entries(tree)) {
    const key = path ? `${path}/${name}` : name;
    if (typeof value === "object" && value !== null) flat(value, key, out);
    else out[key] = typeof value === "string" ? value : null;
  }
  return out;
}

const parse = parser();
const texts = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map((text) => flat(parse(text), "", {}))));
