"""Reads environment files with systemd's own parser, that of `EnvironmentFile=`, out of its private library.

Reads one line of JSON, a list of the texts of files, and writes one: what each of them holds, by name; null for a file
that systemd refuses. Ends with 3 where the library, or what is needed of it, is not there.
"""

import ctypes
import glob
import json
import os
import sys
import tempfile

STRINGS = ctypes.POINTER(ctypes.c_char_p)


def library():
    for path in glob.glob("/usr/lib/*/systemd/libsystemd-shared-*.so") + glob.glob("/usr/lib/systemd/libsystemd-shared-*.so"):
        try:
            found = ctypes.CDLL(path)
            found.load_env_file.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(STRINGS)]
            # What exec_context_load_environment does behind it.
            found.strv_env_clean_with_callback.argtypes = [STRINGS, ctypes.c_void_p, ctypes.c_void_p]
            found.strv_env_clean_with_callback.restype = STRINGS
            return found
        except (OSError, AttributeError):
            continue
    sys.exit(3)


def read(systemd, text):
    with tempfile.NamedTemporaryFile() as file:
        file.write(text.encode())
        file.flush()
        lines = STRINGS()
        if systemd.load_env_file(None, file.name.encode(), ctypes.byref(lines)) < 0:
            return None
        lines = systemd.strv_env_clean_with_callback(lines, None, None)
        found, index = {}, 0
        while lines and lines[index]:
            name, value = lines[index].split(b"=", 1)
            found[name.decode()] = value.decode()
            index += 1
        return found


systemd = library()
# It tells of each line it cannot parse; here many are meant to be such.
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
print(json.dumps([read(systemd, text) for text in json.loads(sys.stdin.readline())]))
