// Makes a component of plugin.js, schema.json and the version in package.json. `guillemet plugin build`
// runs it with the file to write.
import { readFileSync, writeFileSync } from "node:fs";
import { componentize } from "componentize-qjs";
import { runtime } from "./runtime.mjs";

const json = (file) => JSON.stringify(JSON.parse(readFileSync(file, "utf8")));
const entry = `import { component } from "./guillemet.js";
import feature from "./plugin.js";
export const plugin = component(feature, ${json("package.json")}.version, ${json("schema.json")});
`;
const runtimeBytes = runtime();
if (!runtimeBytes) {
  console.error("warning: runtime.mjs does not fit this version of componentize-qjs, so each build makes a different file");
}
try {
  const { component } = await componentize({
    jsSource: entry,
    jsPath: "build.mjs", // beside which imports are looked for
    moduleRoot: ".",
    witPath: "wit",
    world: "feature",
    stubWasi: true, // a plugin has no WASI
    ...(runtimeBytes ? { runtimeBytes } : { sync: true, optSize: true }),
  });
  writeFileSync(process.argv[2], component);
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
