// What a Guillemet plugin in C is written with: a reader of its config that finds everything that is wrong
// with it, JSON, and the encoders of wit/feature.wit. Yours to change; it knows nothing of any feature.
//
// Nothing is ever freed: each call of a plugin begins with a memory of its own, and ends with it. A text that
// is absent is NULL, and every function takes one.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uchar.h>

// A consumer's format.
typedef struct {
  const char *id, *title, *media_type, *file_name;
} Target;

// What the plugin knows. `feature` and `feature_write` are yours to define.
typedef struct {
  const char *feature, *title, *version, *schema;
  const char *secret_fields[32];  // where a secret may stand: "auth.token", "headers.*", "body.**"
  Target targets[16];             // the first is the default
} Feature;

extern const Feature feature;

typedef struct Json Json;
typedef struct Fields Fields;

typedef struct {
  bool is_text;
  const char *text;
} Document;

// Writes the config for a target, which is one of `feature.targets`. Goes on where a field is wrong, so that the
// person hears of everything at once; the document counts only when nothing was.
Document feature_write(Fields *config, const char *target);

// A JSON document: the host writes it anew, with the escapes of the format.
Document json_document(const Json *value);
// A text document: an encoder of such documents goes around every secret in it.
Document text_document(const char *text);

// Tells the author what failed, and gives up.
[[noreturn]] void give_up(const char *why, const char *file, int line);
#define GIVE_UP(why) give_up(why, __FILE__, __LINE__)

// Fields of a config. A wrong one is noted and reads as absent; one that nobody asked for is noted in the end.

// Text of the config: never empty, and it may hold secrets.
typedef struct {
  const char *text;  // NULL where it is absent
  const char *path;  // where it stands: "headers.Authorization"
  const char *name;  // the last of that: "Authorization"
} Text;

typedef struct {
  size_t count;
  Text *items;
} List;

Text field_text(Fields *table, const char *name);
Text field_required(Fields *table, const char *name);
// One of a few words, which a NULL ends.
Text field_choice(Fields *table, const char *name, const char *const *words);
// `missing` where it is absent.
bool field_flag(Fields *table, const char *name, bool missing);
// A whole number within bounds; `missing` where it is absent.
int64_t field_number(Fields *table, const char *name, int64_t least, int64_t most, int64_t missing);
// A list of texts; an absent one is empty.
List field_texts(Fields *table, const char *name);
// A table whose names are free and whose values are texts; an absent one is empty.
List field_entries(Fields *table, const char *name);
// A table of known fields, or NULL.
Fields *field_table(Fields *table, const char *name);
// A list of tables of known fields, which NULL ends; an absent one is empty.
Fields **field_tables(Fields *table, const char *name);
// Notes a field that is absent. Goes before any reader: field_number(field_need(config, "retries"), "retries", 0, 10, 0).
Fields *field_need(Fields *table, const char *name);
// The JSON of a field of any kind, or NULL.
const Json *field_value(Fields *table, const char *name);

// What is wrong, or worth a warning, at a path.
void problem(const char *path, const char *message, const char *help);
void warning(const char *path, const char *message, const char *help);

// Wants literal text to look right. Text with a secret is not known yet and passes.
void check(Text text, bool (*fits)(const char *), const char *message);
// Warns where what ought to be a secret is written into the template in the clear.
void check_credential(Text text);
// Wants an absolute http(s) URL that an HTTP client takes; warns where it is not encrypted.
void check_url(Text url);

// JSON. A member or item that is NULL is left out.

Json *json_text(const char *text);
Json *json_number(int64_t number);
Json *json_flag(bool flag);
Json *json_object(void);
Json *json_array(void);
void json_set(Json *object, const char *name, Json *value);
void json_push(Json *array, Json *value);

// One text of many.
const char *join_all(const char *const *parts);
#define join(...) join_all((const char *const[]){__VA_ARGS__, NULL})

// The encoders: wit/feature.wit tells what each one does.

bool encode_has_secret(const char *text);
bool encode_whole_secret(const char *text);
@encoder_declarations@
const char *encode_basic_credentials(const char *user, const char *password);
const char *encode_sip_digest_ha1(const char *user, const char *realm, const char *password, const char *algorithm);
const char *encode_hmac(const char *key, const char *text, const char *algorithm, const char *encoding);
const char *encode_allow(const char *text, const char *characters, const char *reason);
const char *encode_forbid(const char *text, const char *characters, const char *reason);
const char *encode_forbid_sequence(const char *text, const char *sequence, const char *reason);
const char *encode_at_most(const char *text, uint32_t bytes, const char *reason);

// How `encode_escape` writes a text. The lists end with an entry whose text, or whose reason, is NULL.
typedef struct {
  const char *opening, *closing;
  struct {
    char32_t character;
    const char *text;
  } replacements[64];
  struct {
    const char *characters, *reason;
  } refused[16];
} Escaping;
const char *encode_escape(const char *text, const Escaping *table);

// A line for the plugin's author, which `guillemet plugin test`, `check` and `dev` show.
void encode_log(const char *message);
