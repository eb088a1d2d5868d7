// guillemet.h says what is here: texts and encoders, fields, and the plugin's two exports. JSON is in json.c.
#include "guillemet.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bindings/feature.h"
#include "json.h"

void give_up(const char *why, const char *file, int line) {
  char digits[12] = "", *at = digits + sizeof digits - 1;
  do *--at = (char)('0' + line % 10);
  while (line /= 10);
  feature_string_t message;
  feature_string_set(&message, join(why, " (", file, ":", at, ")"));
  guillemet_feature_encode_panic(&message);
  __builtin_trap();
}

void *make(size_t size) {
  void *memory = calloc(1, size);
  if (!memory) GIVE_UP("out of memory");
  return memory;
}

const char *join_all(const char *const *parts) {
  size_t size = 1;
  for (size_t i = 0; parts[i]; i++) size += strlen(parts[i]);
  char *text = make(size), *end = text;
  for (size_t i = 0; parts[i]; i++) {
    size = strlen(parts[i]);
    end = (char *)memcpy(end, parts[i], size) + size;
  }
  return text;
}

// Encoders.

static feature_string_t in(const char *text) {
  feature_string_t string;
  feature_string_set(&string, text ? text : "");
  return string;
}

static const char *out(feature_string_t string) {
  char *text = make(string.len + 1);
  return memcpy(text, string.ptr, string.len);
}

bool encode_has_secret(const char *text) {
  feature_string_t a = in(text);
  return guillemet_feature_encode_has_secret(&a);
}

bool encode_whole_secret(const char *text) {
  feature_string_t a = in(text);
  return guillemet_feature_encode_whole_secret(&a);
}

#define ENCODER(name)                         \
  const char *encode_##name(const char *text) { \
    feature_string_t a = in(text), made;      \
    guillemet_feature_encode_##name(&a, &made); \
    return out(made);                         \
  }
@encoder_definitions@

const char *encode_basic_credentials(const char *user, const char *password) {
  feature_string_t a = in(user), b = in(password), made;
  guillemet_feature_encode_basic_credentials(&a, &b, &made);
  return out(made);
}

const char *encode_sip_digest_ha1(const char *user, const char *realm, const char *password, const char *algorithm) {
  feature_string_t a = in(user), b = in(realm), c = in(password), d = in(algorithm), made;
  guillemet_feature_encode_sip_digest_ha1(&a, &b, &c, &d, &made);
  return out(made);
}

const char *encode_forbid(const char *text, const char *characters, const char *reason) {
  feature_string_t a = in(text), b = in(characters), c = in(reason), made;
  guillemet_feature_encode_forbid(&a, &b, &c, &made);
  return out(made);
}

const char *encode_forbid_sequence(const char *text, const char *sequence, const char *reason) {
  feature_string_t a = in(text), b = in(sequence), c = in(reason), made;
  guillemet_feature_encode_forbid_sequence(&a, &b, &c, &made);
  return out(made);
}

const char *encode_at_most(const char *text, uint32_t bytes, const char *reason) {
  feature_string_t a = in(text), c = in(reason), made;
  guillemet_feature_encode_at_most(&a, bytes, &c, &made);
  return out(made);
}

const char *encode_hmac(const char *key, const char *text, const char *algorithm, const char *encoding) {
  feature_string_t a = in(key), b = in(text), c = in(algorithm), d = in(encoding), made;
  guillemet_feature_encode_hmac(&a, &b, &c, &d, &made);
  return out(made);
}

const char *encode_allow(const char *text, const char *characters, const char *reason) {
  feature_string_t a = in(text), b = in(characters), c = in(reason), made;
  guillemet_feature_encode_allow(&a, &b, &c, &made);
  return out(made);
}

#define COUNT(array) (sizeof(array) / sizeof *(array))

const char *encode_escape(const char *text, const Escaping *table) {
  guillemet_feature_encode_replacement_t replacements[COUNT(table->replacements)];
  guillemet_feature_encode_refused_t refused[COUNT(table->refused)];
  guillemet_feature_encode_escaping_t escaping = {
      .opening = in(table->opening),
      .closing = in(table->closing),
      .replacements = {replacements, 0},
      .refused = {refused, 0},
  };
  for (size_t i = 0; i < COUNT(replacements) && table->replacements[i].text; i++) {
    replacements[i].character = table->replacements[i].character;
    replacements[i].text = in(table->replacements[i].text);
    escaping.replacements.len++;
  }
  for (size_t i = 0; i < COUNT(refused) && table->refused[i].reason; i++) {
    refused[i].characters = in(table->refused[i].characters);
    refused[i].reason = in(table->refused[i].reason);
    escaping.refused.len++;
  }
  feature_string_t a = in(text), made;
  guillemet_feature_encode_escape(&a, &escaping, &made);
  return out(made);
}

void encode_log(const char *message) {
  feature_string_t a = in(message);
  guillemet_feature_encode_log(&a);
}

// Notes.

typedef exports_guillemet_feature_plugin_problem_t Problem;
typedef exports_guillemet_feature_plugin_list_problem_t Problems;

static Problems problems, warnings;

static bool is(feature_string_t string, const char *text) {
  return string.len == strlen(text) && memcmp(string.ptr, text, string.len) == 0;
}

static void note(Problems *notes, const char *path, const char *message, const char *help) {
  for (size_t i = 0; i < notes->len; i++) {
    if (is(notes->ptr[i].path, path) && is(notes->ptr[i].message, message)) return;
  }
  notes->ptr = realloc(notes->ptr, (notes->len + 1) * sizeof *notes->ptr);
  if (!notes->ptr) GIVE_UP("out of memory");
  Problem *added = &notes->ptr[notes->len++];
  feature_string_dup(&added->path, path);
  feature_string_dup(&added->message, message);
  added->help.is_some = help != NULL;
  feature_string_dup(&added->help.val, help ? help : "");
}

void problem(const char *path, const char *message, const char *help) {
  note(&problems, path, message, help);
}

void warning(const char *path, const char *message, const char *help) {
  note(&warnings, path, message, help);
}

// Fields.

struct Fields {
  Json *object;
  const char *path;
};

static const char *below(const char *path, const char *name) {
  return *path ? join(path, ".", name) : name;
}

// What was found at a path, where it is of this kind.
static Json *fit(Json *found, const char *path, JsonKind kind, const char *message, const char *help) {
  if (!found) return NULL;
  found->asked = true;
  if (found->kind == kind) return found;
  if (found->kind == JSON_NULL) {
    problem(path, "has no value", "set a value, or remove the field");
  } else {
    bool quotes = kind == JSON_TEXT && (found->kind == JSON_NUMBER || found->kind == JSON_FLAG);
    problem(path, message, quotes ? "put the value in quotes" : help);
  }
  return NULL;
}

static Json *value(Fields *table, const char *name, JsonKind kind, const char *message, const char *help) {
  return fit(json_get(table->object, name), below(table->path, name), kind, message, help);
}

static Text text(Json *found, const char *path, const char *name) {
  Text text = {NULL, path, name};
  found = fit(found, path, JSON_TEXT, "must be text", NULL);
  if (found && !*found->text) {
    problem(path, "must not be empty", NULL);
  } else if (found) {
    text.text = found->text;
  }
  return text;
}

Text field_text(Fields *table, const char *name) {
  return text(json_get(table->object, name), below(table->path, name), name);
}

Fields *field_need(Fields *table, const char *name) {
  if (!json_get(table->object, name)) problem(below(table->path, name), "is required", NULL);
  return table;
}

Text field_required(Fields *table, const char *name) {
  return field_text(field_need(table, name), name);
}

Text field_choice(Fields *table, const char *name, const char *const *words) {
  Text found = field_text(table, name);
  const char *list = "";
  for (size_t i = 0; found.text && words[i]; i++) {
    if (strcmp(found.text, words[i]) == 0) return found;
    list = join(list, i ? ", `" : "`", words[i], "`");
  }
  if (found.text) problem(found.path, join("must be one of ", list), NULL);
  found.text = NULL;
  return found;
}

bool field_flag(Fields *table, const char *name, bool missing) {
  Json *found = value(table, name, JSON_FLAG, "must be true or false", "write it without quotes");
  return found ? found->flag : missing;
}

int64_t field_number(Fields *table, const char *name, int64_t least, int64_t most, int64_t missing) {
  const char *bounds = join(json_number(least)->text, " to ", json_number(most)->text);
  const char *message = join("must be a whole number from ", bounds);
  Json *found = value(table, name, JSON_NUMBER, message, NULL);
  if (!found) return missing;
  char *end;
  long long number = strtoll(found->text, &end, 10);
  if (!*end && number >= least && number <= most) return number;
  problem(below(table->path, name), message, NULL);
  return missing;
}

// The texts of an array or of an object's members.
static List texts(Fields *table, const char *name, Json *found) {
  List list = {0, NULL};
  if (!found) return list;
  list.items = make(found->count * sizeof *list.items + 1);
  for (size_t i = 0; i < found->count; i++) {
    Member *member = &found->members[i];
    Text item = text(member->value, below(below(table->path, name), member->name), member->name);
    if (item.text) list.items[list.count++] = item;
  }
  return list;
}

List field_texts(Fields *table, const char *name) {
  return texts(table, name, value(table, name, JSON_ARRAY, "must be a list", NULL));
}

List field_entries(Fields *table, const char *name) {
  return texts(table, name, value(table, name, JSON_OBJECT, "must be a table of fields", NULL));
}

Fields *field_table(Fields *table, const char *name) {
  Json *found = value(table, name, JSON_OBJECT, "must be a table of fields", NULL);
  if (!found) return NULL;
  Fields *fields = make(sizeof *fields);
  *fields = (Fields){found, below(table->path, name)};
  found->is_table = true;
  return fields;
}

Fields **field_tables(Fields *table, const char *name) {
  Json *found = value(table, name, JSON_ARRAY, "must be a list of tables", NULL);
  size_t count = found ? found->count : 0, made = 0;
  Fields **tables = make((count + 1) * sizeof *tables);
  for (size_t i = 0; i < count; i++) {
    Member *member = &found->members[i];
    const char *path = below(below(table->path, name), member->name);
    Json *item = fit(member->value, path, JSON_OBJECT, "must be a table of fields", NULL);
    if (!item) continue;
    item->is_table = true;
    tables[made] = make(sizeof *tables[made]);
    *tables[made++] = (Fields){item, path};
  }
  if (found) found->is_table = true;
  return tables;
}

const Json *field_value(Fields *table, const char *name) {
  Json *found = json_get(table->object, name);
  if (found) found->asked = true;
  return found;
}

// Notes each field that nobody asked for.
static void finish(Json *object, const char *path) {
  for (size_t i = 0; i < object->count; i++) {
    Json *member = object->members[i].value;
    const char *name = below(path, object->members[i].name);
    if (!member->asked) problem(name, "unknown field", NULL);
    if (member->is_table) finish(member, name);
  }
}

// Checks.

void check(Text text, bool (*fits)(const char *), const char *message) {
  if (text.text && !encode_has_secret(text.text) && !fits(text.text)) problem(text.path, message, NULL);
}

void check_credential(Text text) {
  if (text.text && !encode_has_secret(text.text)) {
    warning(text.path, "is written into the template in the clear",
            "keep it in the vault and write << secret \"name\" >> instead");
  }
}

static bool is_loopback(const char *host, size_t size) {
  return (size == 9 && strncasecmp(host, "localhost", 9) == 0) ||
         (size > 10 && strncasecmp(host + size - 10, ".localhost", 10) == 0) ||
         (size > 4 && strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == size);
}

void check_url(Text url) {
  if (!url.text || encode_has_secret(url.text)) return;
  bool https = strncasecmp(url.text, "https://", 8) == 0;
  if (!https && strncasecmp(url.text, "http://", 7) != 0) {
    problem(url.path, "must be an absolute URL that starts with https:// or http://", NULL);
    return;
  }
  const char *authority = url.text + (https ? 8 : 7);
  size_t size = strcspn(authority, "/?#"), host = strcspn(authority, ":/?#");
  if (host == 0) problem(url.path, "has no host", NULL);
  if (memchr(authority, '@', size)) {
    problem(url.path, "must not contain a user or password: HTTP clients reject it; use a header", NULL);
  }
  for (const char *c = url.text; *c; c++) {
    if (*c < '!' || *c > '~') {
      problem(url.path, "must be percent-encoded: it contains a space or a non-ASCII character", NULL);
      break;
    }
  }
  if (!https && !is_loopback(authority, host) && strncmp(authority, "[::1]", 5) != 0) {
    warning(url.path, "is not encrypted: anyone on the network path can read the secrets in the request", NULL);
  }
}

// What the component exports.

Document json_document(const Json *value) {
  return (Document){false, json_write(value)};
}

Document text_document(const char *text) {
  return (Document){true, text};
}

void exports_guillemet_feature_plugin_describe(exports_guillemet_feature_plugin_description_t *told) {
  feature_string_dup(&told->feature, feature.feature);
  feature_string_dup(&told->title, feature.title);
  feature_string_dup(&told->version, feature.version);
  feature_string_dup(&told->schema, feature.schema);
  size_t count = 0;
  while (count < sizeof feature.secret_fields / sizeof *feature.secret_fields && feature.secret_fields[count]) count++;
  told->secret_fields.len = count;
  told->secret_fields.ptr = make(count * sizeof *told->secret_fields.ptr + 1);
  for (size_t i = 0; i < count; i++) feature_string_dup(&told->secret_fields.ptr[i], feature.secret_fields[i]);
  count = 0;
  while (count < sizeof feature.targets / sizeof *feature.targets && feature.targets[count].id) count++;
  told->targets.len = count;
  told->targets.ptr = make(count * sizeof *told->targets.ptr + 1);
  for (size_t i = 0; i < count; i++) {
    feature_string_dup(&told->targets.ptr[i].id, feature.targets[i].id);
    feature_string_dup(&told->targets.ptr[i].title, feature.targets[i].title);
    feature_string_dup(&told->targets.ptr[i].media_type, feature.targets[i].media_type);
    feature_string_dup(&told->targets.ptr[i].file_name, feature.targets[i].file_name);
  }
}

bool exports_guillemet_feature_plugin_plan(feature_string_t *config, feature_string_t *target,
                                           exports_guillemet_feature_plugin_planned_t *planned, Problems *refused) {
  Fields fields = {json_read(out(*config)), ""};
  Document document = feature_write(&fields, out(*target));
  finish(fields.object, "");
  *refused = problems;
  if (problems.len) return false;
  planned->document.tag = document.is_text ? EXPORTS_GUILLEMET_FEATURE_PLUGIN_DOCUMENT_TEXT
                                           : EXPORTS_GUILLEMET_FEATURE_PLUGIN_DOCUMENT_JSON;
  feature_string_dup(&planned->document.val.text, document.text);
  planned->warnings = warnings;
  return true;
}
