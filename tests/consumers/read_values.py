"""Reads config files with Python's own parsers: tomllib, configparser and netrc, and with PyYAML.

Reads one line of JSON, a format and a list of the texts of files, and writes one: what each of them holds, as text by
path, with null for what is not text; null for a file that the parser refuses.
"""

import configparser
import json
import netrc
import os
import sys
import tempfile
import tomllib

import yaml


def flat(tree, path=()):
    if isinstance(tree, dict):
        pairs = [(str(name), value) for name, value in tree.items()]
    elif isinstance(tree, list):
        pairs = [(str(index), value) for index, value in enumerate(tree)]
    else:
        return {"/".join(path): tree if isinstance(tree, str) else None}
    return {key: text for name, value in pairs for key, text in flat(value, (*path, name)).items()}


def ini(text):
    parser = configparser.ConfigParser()
    parser.read_string(text)
    return {f"{section}/{key}": interpolated(parser, section, key) for section in parser.sections() for key in parser[section]}


def interpolated(parser, section, key):
    try:
        return parser.get(section, key)
    except configparser.InterpolationError:
        return None


def netrc_file(text):
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(text.encode())
        file.flush()
        found = {}
        for machine, (login, _, password) in netrc.netrc(file.name).hosts.items():
            found |= {"machine": machine, f"{machine}/login": login, f"{machine}/password": password}
        return found


READERS = {
    "yaml": lambda text: flat(yaml.safe_load(text)),
    "toml": lambda text: flat(tomllib.loads(text)),
    "ini": ini,
    "netrc": netrc_file,
}


def read(reader, text):
    try:
        return reader(text)
    except Exception:
        return None


asked = json.loads(sys.stdin.readline())
os.umask(0o077)
print(json.dumps([read(READERS[asked["format"]], text) for text in asked["files"]]))
