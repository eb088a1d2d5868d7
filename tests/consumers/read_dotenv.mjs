// Reads dotenv files with Node's own parser, that of `--env-file`.
//
// Reads one line of JSON, a list of the texts of files, and writes one: what each of them holds, by name.

import { readFileSync } from "node:fs";
import { parseEnv } from "node:util";

const texts = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map((text) => parseEnv(text))));
