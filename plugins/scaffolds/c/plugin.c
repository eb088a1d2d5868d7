// @title@: where a platform sends its events, and the token it sends with them.
//
// `json` is the body of a request that registers the webhook, `env` what a service reads at its start.
#include <string.h>

#include "guillemet.h"

static const char schema[] = {
#embed "schema.json"
    , '\0'};

const Feature feature = {
    .feature = "@name@",
    .title = "@title@",
    .version = "0.1.0",
    .schema = schema,
    .secret_fields = {"url", "token"},
    .targets = {{"json", "JSON", "application/json", "@name@.json"},
                {"env", "dotenv", "text/plain; charset=utf-8", "@name@.env"}},
};

static bool is_event(const char *text) {
  return text[strspn(text, "abcdefghijklmnopqrstuvwxyz.")] == '\0';
}

static const char *line(const char *name, const char *value) {
  return value ? join(name, "=", encode_dotenv(value), "\n") : "";
}

Document feature_write(Fields *config, const char *target) {
  Text url = field_required(config, "url");
  check_url(url);
  // One with a secret is looked at when the secret is filled in.
  if (url.text && encode_has_secret(url.text)) url.text = encode_url(url.text);
  Text token = field_required(config, "token");
  check_credential(token);
  List events = field_texts(config, "events");
  const char *joined = NULL;
  Json *list = NULL;
  for (size_t i = 0; i < events.count; i++) {
    Text event = events.items[i];
    check(event, is_event, "must be lower-case letters and dots, such as `call.ended`");
    joined = joined ? join(joined, ",", event.text) : event.text;
    if (!list) list = json_array();
    json_push(list, json_text(event.text));
  }
  if (strcmp(target, "env") == 0) {
    return text_document(
        join(line("WEBHOOK_URL", url.text), line("WEBHOOK_TOKEN", token.text), line("WEBHOOK_EVENTS", joined)));
  }
  Json *headers = json_object();
  if (token.text) json_set(headers, "Authorization", json_text(encode_header_value(join("Bearer ", token.text))));
  Json *document = json_object();
  json_set(document, "method", json_text("POST"));
  json_set(document, "url", json_text(url.text));
  json_set(document, "headers", headers);
  json_set(document, "events", list);
  return json_document(document);
}
