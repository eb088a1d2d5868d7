// Every kind of field.
import { checkUrl, encode, json } from "./guillemet.js";

export default {
  feature: "fields",
  title: "Fields",
  secretFields: ["headers.*", "auth.token"],
  targets: [{ id: "json", title: "JSON", mediaType: "application/json", fileName: "a.json" }],

  plan(config) {
    const why = config.text("fail");
    if (why) throw new Error(why.text);
    const url = config.text("url");
    if (url) checkUrl(url);
    const token = config.table("auth")?.required("token")?.credential();
    const headers = config.entries("headers").map(([name, value]) => [name, encode.headerValue(value)]);
    const routes = config.tables("routes").map((route) => ({
      name: route.required("name")?.text,
      weight: route.need("weight").number("weight", 0, 100),
    }));
    return json({
      mode: config.choice("mode", ["fast", "slow"]),
      loud: config.flag("loud"),
      retries: config.number("retries", 0, 10),
      url: url?.text,
      headers: Object.fromEntries(headers),
      token,
      routes: routes.length > 0 ? routes : undefined,
    });
  },
};
