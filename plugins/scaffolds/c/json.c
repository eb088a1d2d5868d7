// JSON: a tree, read and written. The host has checked what is read here, so a mistake in it is the host's.
#include "json.h"

#include <stdlib.h>
#include <string.h>

static Json *json(JsonKind kind) {
  Json *value = make(sizeof *value);
  value->kind = kind;
  return value;
}

static const char *decimal(unsigned long long number) {
  char digits[24] = "", *at = digits + sizeof digits - 1;
  do *--at = (char)('0' + number % 10);
  while (number /= 10);
  return join(at);
}

Json *json_text(const char *text) {
  if (!text) return NULL;
  Json *value = json(JSON_TEXT);
  value->text = text;
  return value;
}

Json *json_number(int64_t number) {
  Json *value = json(JSON_NUMBER);
  unsigned long long size = number < 0 ? -(unsigned long long)number : (unsigned long long)number;
  value->text = join(number < 0 ? "-" : "", decimal(size));
  return value;
}

Json *json_flag(bool flag) {
  Json *value = json(JSON_FLAG);
  value->flag = flag;
  return value;
}

Json *json_object(void) {
  return json(JSON_OBJECT);
}

Json *json_array(void) {
  return json(JSON_ARRAY);
}

void json_set(Json *object, const char *name, Json *value) {
  if (!value) return;
  // Room for twice as many, whenever it is a power of two.
  if ((object->count & (object->count - 1)) == 0) {
    size_t room = object->count ? 2 * object->count : 1;
    object->members = realloc(object->members, room * sizeof *object->members);
    if (!object->members) GIVE_UP("out of memory");
  }
  object->members[object->count++] = (Member){name, value};
}

void json_push(Json *array, Json *value) {
  json_set(array, decimal(array->count), value);
}

Json *json_get(const Json *object, const char *name) {
  for (size_t i = 0; i < object->count; i++) {
    if (strcmp(object->members[i].name, name) == 0) return object->members[i].value;
  }
  return NULL;
}

// Reading.

static void skip(const char **at) {
  *at += strspn(*at, " \t\r\n");
}

static unsigned hex(const char **at) {
  unsigned code = 0;
  for (int i = 0; i < 4; i++, ++*at) {
    char c = **at;
    code = code << 4 | (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return code;
}

// A code point behind `\u`, in UTF-8.
static char *utf8(const char **at, char *end) {
  unsigned code = hex(at);
  if (code >= 0xd800 && code < 0xdc00 && (*at)[0] == '\\' && (*at)[1] == 'u') {
    *at += 2;
    code = 0x10000 + ((code - 0xd800) << 10) + (hex(at) - 0xdc00);
  }
  // Texts end with NUL here, so none can stand in one.
  if (code == 0) {
    problem("", "a text holds the character NUL, which this plugin cannot read", NULL);
    code = '?';
  }
  if (code < 0x80) {
    *end++ = (char)code;
    return end;
  }
  int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  static const unsigned first[] = {0, 0xc0, 0xe0, 0xf0};
  *end++ = (char)(first[more] | code >> (6 * more));
  while (more--) *end++ = (char)(0x80 | (code >> (6 * more) & 0x3f));
  return end;
}

// From the opening quote to behind the closing one.
static const char *string(const char **at) {
  size_t size = 1;
  while ((*at)[size] && (*at)[size] != '"') size += (*at)[size] == '\\' ? 2 : 1;
  // No escape is shorter than what it stands for.
  char *text = make(size), *end = text;
  for (++*at; **at != '"';) {
    if (!**at) GIVE_UP("the config is not JSON");
    if (**at != '\\') {
      *end++ = *(*at)++;
      continue;
    }
    static const char names[] = "\"\\/bfnrt", stand_for[] = "\"\\/\b\f\n\r\t";
    char c = (*at)[1];
    *at += 2;
    if (c == 'u') {
      end = utf8(at, end);
    } else {
      const char *name = c ? strchr(names, c) : NULL;
      if (!name) GIVE_UP("the config is not JSON");
      *end++ = stand_for[name - names];
    }
  }
  ++*at;
  return text;
}

static Json *read(const char **at) {
  skip(at);
  char c = **at;
  if (c == '"') return json_text(string(at));
  if (c == '{' || c == '[') {
    Json *value = json(c == '{' ? JSON_OBJECT : JSON_ARRAY);
    char close = c == '{' ? '}' : ']';
    for (++*at, skip(at); **at != close; skip(at)) {
      if (value->kind == JSON_ARRAY) {
        json_push(value, read(at));
      } else {
        const char *name = string(at);
        skip(at);
        ++*at;  // the colon
        json_set(value, name, read(at));
      }
      skip(at);
      if (**at == ',') {
        ++*at;
      } else if (**at != close) {
        GIVE_UP("the config is not JSON");
      }
    }
    ++*at;
    return value;
  }
  size_t size = strspn(*at, "+-.0123456789abcdefghijklmnopqrstuvwxyzE");
  if (!size) GIVE_UP("the config is not JSON");
  char *word = make(size + 1);
  memcpy(word, *at, size);
  *at += size;
  if (strcmp(word, "null") == 0) return json(JSON_NULL);
  if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0) return json_flag(*word == 't');
  Json *number = json(JSON_NUMBER);
  number->text = word;
  return number;
}

Json *json_read(const char *text) {
  return read(&text);
}

// Writing: once to count, once to write.

typedef struct {
  char *end;  // NULL where it is only counted
  size_t size;
} Writer;

static void put(Writer *writer, const char *text, size_t size) {
  if (writer->end) writer->end = (char *)memcpy(writer->end, text, size) + size;
  writer->size += size;
}

static void put_string(Writer *writer, const char *text) {
  put(writer, "\"", 1);
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\') {
      put(writer, "\\", 1);
      put(writer, text, 1);
    } else if (c < 0x20) {
      char escape[] = {'\\', 'u', '0', '0', (char)('0' + (c >> 4)), "0123456789abcdef"[c & 15]};
      put(writer, escape, sizeof escape);
    } else {
      put(writer, text, 1);
    }
  }
  put(writer, "\"", 1);
}

static void write(Writer *writer, const Json *value) {
  switch (value->kind) {
    case JSON_NULL:
      put(writer, "null", 4);
      break;
    case JSON_FLAG:
      put(writer, value->flag ? "true" : "false", value->flag ? 4 : 5);
      break;
    case JSON_NUMBER:
      put(writer, value->text, strlen(value->text));
      break;
    case JSON_TEXT:
      put_string(writer, value->text);
      break;
    case JSON_ARRAY:
    case JSON_OBJECT:
      put(writer, value->kind == JSON_OBJECT ? "{" : "[", 1);
      for (size_t i = 0; i < value->count; i++) {
        if (i) put(writer, ",", 1);
        if (value->kind == JSON_OBJECT) {
          put_string(writer, value->members[i].name);
          put(writer, ":", 1);
        }
        write(writer, value->members[i].value);
      }
      put(writer, value->kind == JSON_OBJECT ? "}" : "]", 1);
      break;
  }
}

const char *json_write(const Json *value) {
  Writer writer = {NULL, 0};
  write(&writer, value);
  char *text = make(writer.size + 1);
  writer = (Writer){text, 0};
  write(&writer, value);
  return text;
}
