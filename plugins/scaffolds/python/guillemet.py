"""What a Guillemet plugin in Python is written with: a reader of its config that finds everything that is
wrong with it, and the encoders of wit/feature.wit. Yours to change; it knows nothing of any feature.
"""

import difflib
import io
import json
import pathlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.plugin import Description, Document, Document_Json, Document_Text, Planned, Problem, Target
from wit_world.imports import encode as contract

__all__ = [
    "Document",
    "Feature",
    "Fields",
    "Target",
    "Text",
    "check_url",
    "encode",
    "json_document",
    "text_document",
]

# Read when the component is made; it has no files later.
SCHEMA = json.dumps(json.loads(pathlib.Path(__file__).with_name("schema.json").read_text("utf-8")))


def checked(name: str, encoder: Any) -> Any:
    """An encoder that tells what is no text, instead of ending the plugin."""

    def call(*values: Any) -> Any:
        for index, value in enumerate(values):
            wanted = {("at_most", 1): int, ("escape", 1): contract.Escaping}.get((name, index), str)
            if not isinstance(value, wanted):
                found = "None; is the field absent?" if value is None else type(value).__name__
                raise TypeError(f"encode.{name} takes {wanted.__name__}, and got {found}")
        return encoder(*values)

    return call


# The encoders, and the classes for the table of `escape`.
if TYPE_CHECKING:
    encode = contract
else:
    encode = SimpleNamespace(
        **{
            name: checked(name, member) if isinstance(member, FunctionType) else member
            for name, member in vars(contract).items()
            if not name.startswith("_")
        }
    )


class Log(io.TextIOBase):
    """What a plugin prints is shown by `guillemet plugin test`, `check` and `dev`."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            encode.log(line)
        return len(text)

    def finish(self) -> None:
        if self._line:
            self.write("\n")


def absent(what: str) -> Any:
    """A plugin that asks for this is told that there is none, instead of being stopped."""

    def ask(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"a plugin has no {what}")

    return ask


ABSENT = {
    "time": ("clock", ["time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"]),
    "random": ("random numbers", ["random", "randint", "choice", "randrange", "shuffle", "sample"]),
    "os": ("random numbers", ["urandom"]),
}


def json_document(value: Any) -> Document:
    """A JSON document: the host writes it anew, with the escapes of the format."""
    return Document_Json(json.dumps(value))


def text_document(text: str) -> Document:
    """A text document: an encoder of such documents goes around every secret in it."""
    return Document_Text(text)


class Notes:
    """Problems make a plan fail; warnings do not."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.tables: list[Fields] = []


def note(notes: list[Problem], path: str, message: str, help: str | None = None) -> None:
    if not any(known.path == path and known.message == message for known in notes):
        notes.append(Problem(path, message, help))


class Text(str):
    """Text of the config: never empty, and it may hold secrets."""

    path: str
    notes: Notes

    def __new__(cls, text: str, path: str, notes: Notes) -> "Text":
        new = super().__new__(cls, text)
        new.path, new.notes = path, notes
        return new

    def problem(self, message: str, help: str | None = None) -> None:
        note(self.notes.problems, self.path, message, help)

    def warning(self, message: str, help: str | None = None) -> None:
        note(self.notes.warnings, self.path, message, help)

    def check(self, pattern: str, message: str) -> "Text":
        """Wants literal text to match as a whole. Text with a secret is not known yet and passes. Gives the text."""
        if not encode.has_secret(self) and not re.fullmatch(pattern, self):
            self.problem(message)
        return self

    def credential(self) -> "Text":
        """Warns where what ought to be a secret is written into the template in the clear. Gives the text."""
        if not encode.has_secret(self):
            help = 'keep it in the vault and write << secret "name" >> instead'
            self.warning("is written into the template in the clear", help)
        return self


class Fields:
    """A table of the config. A wrong field is noted and reads as absent."""

    def __init__(self, table: dict[str, Any], path: str, notes: Notes) -> None:
        self._table, self._path, self._notes = table, path, notes
        self._asked: list[str] = []
        notes.tables.append(self)

    def path(self, name: str) -> str:
        """The path of one of its fields: `auth.token`."""
        return f"{self._path}.{name}" if self._path else name

    def problem(self, name: str, message: str, help: str | None = None) -> None:
        """Notes what is wrong with a field."""
        note(self._notes.problems, self.path(name), message, help)

    def warning(self, name: str, message: str, help: str | None = None) -> None:
        """Notes what a person should know about a field."""
        note(self._notes.warnings, self.path(name), message, help)

    def value(self, name: str) -> Any:
        """Any value."""
        self._asked.append(name)
        value = self._table.get(name)
        if value is None and name in self._table:
            self.problem(name, "has no value", "set a value, or remove the field")
        return value

    def text(self, name: str) -> Text | None:
        """Text, never empty."""
        return self._text(self.value(name), self.path(name))

    def required(self, name: str) -> Text | None:
        """Text that must be there."""
        return self.need(name).text(name)

    def choice(self, name: str, words: list[str]) -> str | None:
        """One of a few words."""
        text = self.text(name)
        if text is None or text in words:
            return text
        self.problem(name, "must be one of " + ", ".join(f"`{word}`" for word in words), did_you_mean(text, words))
        return None

    def flag(self, name: str) -> bool | None:
        """True or false."""
        value = self.value(name)
        if value is None or isinstance(value, bool):
            return value
        self.problem(name, "must be true or false", "write it without quotes")
        return None

    def number(self, name: str, least: int, most: int) -> int | None:
        """A whole number within bounds."""
        value = self.value(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and least <= value <= most):
            return value
        self.problem(name, f"must be a whole number from {least} to {most}")
        return None

    def texts(self, name: str) -> list[Text]:
        """A list of texts; an absent one is empty."""
        values = self.value(name)
        if values is not None and not isinstance(values, list):
            self.problem(name, "must be a list")
            return []
        texts = [self._text(value, f"{self.path(name)}.{index}") for index, value in enumerate(values or [])]
        return [text for text in texts if text is not None]

    def entries(self, name: str) -> dict[str, Text]:
        """A table whose names are free and whose values are texts; an absent one is empty."""
        table = self._table_at(name) or {}
        texts = {key: self._text(value, f"{self.path(name)}.{key}") for key, value in table.items()}
        return {key: text for key, text in texts.items() if text is not None}

    def tables(self, name: str) -> list["Fields"]:
        """A list of tables; an absent one is empty."""
        values = self.value(name)
        if values is not None and not isinstance(values, list):
            self.problem(name, "must be a list of tables")
            return []
        tables = []
        for index, value in enumerate(values or []):
            path = f"{self.path(name)}.{index}"
            if isinstance(value, dict):
                tables.append(Fields(value, path, self._notes))
            else:
                note(self._notes.problems, path, "must be a table of fields")
        return tables

    def need(self, name: str) -> "Fields":
        """Notes a field that is not there. Before any other reader: `config.need("retries").number("retries", 0, 10)`."""
        if name not in self._table:
            self.problem(name, "is required")
        return self

    def table(self, name: str) -> "Fields | None":
        """A table of known fields."""
        table = self._table_at(name)
        return None if table is None else Fields(table, self.path(name), self._notes)

    def finish(self) -> None:
        """Notes each field that nobody asked for."""
        for name in self._table:
            if name not in self._asked:
                self.problem(name, "unknown field", did_you_mean(name, self._asked))

    def _table_at(self, name: str) -> dict[str, Any] | None:
        value = self.value(name)
        if value is None or isinstance(value, dict):
            return value
        self.problem(name, "must be a table of fields")
        return None

    def _text(self, value: Any, path: str) -> Text | None:
        if isinstance(value, str) and value:
            return Text(value, path, self._notes)
        if value == "":
            note(self._notes.problems, path, "must not be empty")
        elif isinstance(value, (dict, list)):
            note(self._notes.problems, path, "must be text")
        elif value is not None:
            note(self._notes.problems, path, "must be text", "put the value in quotes")
        return None


class Feature(exports.Plugin):
    """What plugin.py derives its `Plugin` from."""

    feature: str
    title: str
    version: str
    secret_fields: list[str]
    targets: list[Target]

    def write(self, config: Fields, target: str) -> Document:
        """Writes the config for a target, which is one of `targets`. Goes on where a field is wrong, so that
        the person hears of everything at once."""
        raise NotImplementedError

    def describe(self) -> Description:
        with telling():
            return Description(self.feature, self.title, self.version, SCHEMA, self.secret_fields, self.targets)

    def plan(self, config: str, target: str) -> Planned:
        notes = Notes()
        with telling():
            document = self.write(Fields(json.loads(config), "", notes), target)
            for table in notes.tables:
                table.finish()
            # What is wrong with the config may be why there is no document.
            if not notes.problems and not isinstance(document, (Document_Json, Document_Text)):
                line = self.write.__func__.__code__.co_firstlineno
                raise TypeError(
                    f"write returned {type(document).__name__}; end it with `return json_document(…)` or "
                    f"`return text_document(…)` (plugin.py:{line})"
                )
        if notes.problems:
            raise Err(notes.problems)
        return Planned(document, notes.warnings)


@contextmanager
def telling() -> Iterator[None]:
    """Tells the author what failed, and where."""
    log = Log()
    sys.stdout = sys.stderr = log
    for module, (what, names) in ABSENT.items():
        for name in names if module in sys.modules else []:
            setattr(sys.modules[module], name, absent(what))
    try:
        yield
        log.finish()
    except BaseException as error:
        log.finish()
        # Not by `traceback`, which would look for the source: here are no files.
        place, step = "", error.__traceback__
        while step:
            file = pathlib.PurePath(step.tb_frame.f_code.co_filename).name
            if file == "plugin.py" or not place.startswith("plugin.py"):
                place = f"{file}:{step.tb_lineno}"
            step = step.tb_next
        message = f"{type(error).__name__}: {error}"
        # A message that ends with a place of its own keeps it.
        encode.panic(message if re.search(r"\(plugin\.py:\d+\)$", message) else f"{message} ({place})")
        raise


def check_url(url: Text) -> None:
    """Wants an absolute http(s) URL that an HTTP client takes; warns where it is not encrypted."""
    if encode.has_secret(url):
        return
    found = re.match(r"(https?)://([^/?#]*)", url, re.IGNORECASE)
    if not found:
        url.problem("must be an absolute URL that starts with https:// or http://")
        return
    scheme, authority = found.groups()
    if not authority or authority.startswith(":"):
        url.problem("has no host")
    if "@" in authority:
        url.problem("must not contain a user or password: HTTP clients reject it; use a header")
    if not re.fullmatch(r"[!-~]*", url):
        url.problem("must be percent-encoded: it contains a space or a non-ASCII character")
    loopback = re.match(r"(localhost|[^:]*\.localhost|127(\.\d+){3}|\[::1\])(:|$)", authority, re.IGNORECASE)
    if scheme.lower() == "http" and not loopback:
        url.warning("is not encrypted: anyone on the network path can read the secrets in the request")


def did_you_mean(word: str, words: list[str]) -> str | None:
    """The word that was probably meant."""
    near = difflib.get_close_matches(word, words, 1)
    return f"did you mean `{near[0]}`?" if near else None
