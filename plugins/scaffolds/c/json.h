// JSON as guillemet.c needs it: a tree, read and written.
#pragma once

#include "guillemet.h"

typedef enum { JSON_NULL, JSON_FLAG, JSON_NUMBER, JSON_TEXT, JSON_ARRAY, JSON_OBJECT } JsonKind;

typedef struct {
  const char *name;  // of an array's item: its index
  Json *value;
} Member;

struct Json {
  JsonKind kind;
  bool flag;
  bool asked;        // whether the plugin has asked for this field
  bool is_table;     // whether it is a table of known fields
  const char *text;  // of a text, and of a number as it is written
  size_t count;
  Member *members;
};

// Reads JSON that the host has written.
Json *json_read(const char *text);
// The member of that name, or NULL.
Json *json_get(const Json *object, const char *name);
const char *json_write(const Json *value);

// Zeroed memory; gives up where there is none.
void *make(size_t size);
