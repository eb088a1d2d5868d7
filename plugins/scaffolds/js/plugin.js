// @title@: where a platform sends its events, and the token it sends with them.
//
// `json` is the body of a request that registers the webhook, `env` what a service reads at its start.
import { checkUrl, encode, json, text } from "./guillemet.js";

export default {
  feature: "@name@",
  title: "@title@",
  secretFields: ["url", "token"],
  targets: [
    { id: "json", title: "JSON", mediaType: "application/json", fileName: "@name@.json" },
    { id: "env", title: "dotenv", mediaType: "text/plain; charset=utf-8", fileName: "@name@.env" },
  ],

  plan(config, target) {
    const url = config.required("url");
    if (url) checkUrl(url);
    const token = config.required("token")?.credential();
    const events = config.texts("events");
    const what = "must be lower-case letters and dots, such as `call.ended`";
    for (const event of events) event.check(/^[a-z.]+$/, what);
    if (target === "env") {
      const lines = { WEBHOOK_URL: url && urlOf(url), WEBHOOK_TOKEN: token };
      if (events.length > 0) lines.WEBHOOK_EVENTS = events.join(",");
      const line = ([name, value]) => (value ? `${name}=${encode.dotenv(String(value))}\n` : "");
      return text(Object.entries(lines).map(line).join(""));
    }
    return json({
      method: "POST",
      url: url && urlOf(url),
      headers: { Authorization: token && encode.headerValue(`Bearer ${token}`) },
      events: events.length > 0 ? events.map(String) : undefined,
    });
  },
};

// One with a secret is looked at when the secret is filled in, any other in `checkUrl`.
const urlOf = (url) => (encode.hasSecret(url.text) ? encode.url(url.text) : url.text);
