// Every kind of field.
#include "guillemet.h"

static const char schema[] = {
#embed "schema.json"
    , '\0'};

const Feature feature = {
    .feature = "fields",
    .title = "Fields",
    .version = "0.1.0",
    .schema = schema,
    .secret_fields = {"headers.*", "auth.token"},
    .targets = {{"json", "JSON", "application/json", "a.json"}},
};

Document feature_write(Fields *config, const char *target) {
  (void)target;
  Text why = field_text(config, "fail");
  if (why.text) GIVE_UP(why.text);
  Text url = field_text(config, "url");
  check_url(url);
  Fields *auth = field_table(config, "auth");
  Text token = {NULL, NULL, NULL};
  if (auth) token = field_required(auth, "token");
  check_credential(token);
  Json *headers = json_object();
  List entries = field_entries(config, "headers");
  for (size_t i = 0; i < entries.count; i++) {
    Text entry = entries.items[i];
    json_set(headers, entry.name, json_text(encode_header_value(entry.text)));
  }
  Json *routes = NULL;
  for (Fields **route = field_tables(config, "routes"); *route; route++) {
    Json *made = json_object();
    json_set(made, "name", json_text(field_required(*route, "name").text));
    json_set(made, "weight", json_number(field_number(field_need(*route, "weight"), "weight", 0, 100, 0)));
    if (!routes) routes = json_array();
    json_push(routes, made);
  }
  static const char *const words[] = {"fast", "slow", NULL};
  int64_t retries = field_number(config, "retries", 0, 10, -1);
  bool yes = field_flag(config, "loud", false), no = !field_flag(config, "loud", true);
  Json *document = json_object();
  json_set(document, "mode", json_text(field_choice(config, "mode", words).text));
  json_set(document, "loud", yes || no ? json_flag(yes) : NULL);
  json_set(document, "retries", retries < 0 ? NULL : json_number(retries));
  json_set(document, "url", json_text(url.text));
  json_set(document, "headers", headers);
  json_set(document, "token", json_text(token.text));
  json_set(document, "routes", routes);
  return json_document(document);
}
