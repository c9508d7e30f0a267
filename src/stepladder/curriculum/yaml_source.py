"""A YAML file as plain data that remembers where every key and value was written, also after `--set`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from stepladder.curriculum import hf_args
from stepladder.errors import CurriculumError, Problem
from stepladder_worker import redaction

#: Where a value lies in the data: keys of mappings and indices (from 0) of lists.
DataPath = tuple[str | int, ...]

_BEGINNING = "start with `name:`, `model_name_or_path:`, `output_dir:` and `stages:`"
#: Lists and mappings within each other; a curriculum needs about ten.
_DEEPEST = 50
_TOO_DEEP = "found lists and mappings nested too deeply, expected a curriculum"
_TEXT_FILE = "give the path of a curriculum file: YAML, saved as UTF-8"

_TAG = "tag:yaml.org,2002:"
#: Dates stay the text they were written as: no argument of a script is a date object.
_TEXT_TAGS = (_TAG + "str", _TAG + "timestamp")
_TYPED_TAGS = (_TAG + "null", _TAG + "bool", _TAG + "int", _TAG + "float")


@dataclass(frozen=True)
class Finding:
    """Something wrong at a place in the data, before the place has a line number.

    Attributes:
        path: where; the nearest place that was written stands in for one that was not.
        text, hint: as in errors.Problem.
        at_key: True when the key itself is the trouble, not its value.
    """

    path: DataPath
    text: str
    hint: str | None = None
    at_key: bool = False


@dataclass
class Document:
    """Plain data and the places it was written at.

    Attributes:
        name: the file's name as it was given.
        data: dictionaries, lists, text, numbers, booleans and None.
        keys, values: line and column (both from 1) by path.
        overridden: the `--set KEY` that wrote a value, by path.
        included: the name of the file that holds what is below a key of the top level, by its path.
    """

    name: str
    data: dict[str, Any] = field(default_factory=dict)
    keys: dict[DataPath, tuple[int, int]] = field(default_factory=dict)
    values: dict[DataPath, tuple[int, int]] = field(default_factory=dict)
    overridden: dict[DataPath, str] = field(default_factory=dict)
    included: dict[DataPath, str] = field(default_factory=dict)

    def place(self, path: DataPath, at_key: bool = False) -> str:
        """`file:line:column` of the value at `path` (or of its key), or `--set KEY` where that wrote it."""
        for depth in range(len(path), -1, -1):
            if path[:depth] in self.overridden:
                return f"--set {self.overridden[path[:depth]]}"
        if path not in self.values:
            # A key that the file does not have may have been begun by an override of something in it.
            for below, key in self.overridden.items():
                if below[: len(path)] == path:
                    return f"--set {key}"
        line, column = self._position(path, at_key)
        return f"{self._file(path) or self.name}:{line}:{column}"

    def include(self, key: str) -> None:
        """Replace the file name under a key of the top level by what that file holds; nothing to do without one.

        Raises CurriculumError as `read` does.
        """
        name = self.data.get(key)
        if not isinstance(name, str):
            return
        other = read(str(Path(name).expanduser()), at=self.place((key,)))
        self.data[key] = other.data
        self.keys |= {(key, *path): place for path, place in other.keys.items()}
        self.values |= {(key, *path): place for path, place in other.values.items()}
        self.included[(key,)] = other.name
        self.overridden.pop((key,), None)

    def problems(self, findings: Iterable[Finding]) -> list[Problem]:
        """The findings with their places, in the order of the file, those of files it includes last."""
        ordered = sorted(findings, key=lambda f: (self._file(f.path) or "", *self._position(f.path, f.at_key)))
        return [Problem(self.place(f.path, f.at_key), f.text, f.hint) for f in ordered]

    def override(self, assignments: Iterable[str]) -> list[Problem]:
        """Apply `KEY=VALUE` assignments with dotted keys in order; returns what is wrong with them."""
        problems = []
        for assignment in assignments:
            key, found, text = assignment.partition("=")
            try:
                if not found or not key.strip():
                    raise _RefusedError(f"found {assignment!r}, expected KEY=VALUE", "for example --set args.seed=7")
                _, _, name = key.strip().rpartition(".")
                value = text.strip("\"' ")
                if "env." in key:
                    redaction.remember({name: value})
                if hf_args.is_secret(name):  # `eos_token` is none
                    redaction.remember_values([value])
                self._assign(key.strip(), text)
            except _RefusedError as refused:
                problems.append(Problem(f"--set {key.strip()}", refused.text, refused.hint))
        return problems

    def _file(self, path: DataPath) -> str | None:
        return self.included.get(path[:1])

    def _position(self, path: DataPath, at_key: bool) -> tuple[int, int]:
        if at_key and path in self.keys:
            return self.keys[path]
        for depth in range(len(path), -1, -1):
            if path[:depth] in self.values:
                return self.values[path[:depth]]
        return (1, 1)

    def _assign(self, key: str, text: str) -> None:
        tokens = key.split(".")
        path: DataPath = ()
        target: Any = self.data
        while tokens:
            step, tokens = _step(target, tokens, path)
            path = (*path, step)
            if not tokens:
                target[step] = _parse_value(text)
                self.overridden[path] = key
            elif isinstance(target, dict):
                # A mapping on the way that the file does not have, or has empty (`args:`), is begun here.
                if target.get(step) is None:
                    target[step] = {}
                target = target[step]
            else:
                target = target[step]


class _RefusedError(Exception):
    def __init__(self, text: str, hint: str | None = None) -> None:
        self.text, self.hint = text, hint


def read(file: str, at: str | None = None) -> Document:
    """Read a YAML file whose top level is a mapping; `at` is the place that names it, where another file does.

    Raises CurriculumError, with every problem that can be seen without understanding the content: a missing or
    unreadable file, syntax, a key written twice, tags of other programs.
    """
    try:
        text = Path(file).read_text("utf-8")
    except (OSError, ValueError) as error:
        problem = _unreadable(file, error)
        raise CurriculumError([problem if at is None else Problem(at, str(problem), problem.hint)]) from None
    try:
        node = _yaml().compose(text)
    except YAMLError as error:
        raise CurriculumError([_syntax(file, error)]) from None
    except RecursionError:
        raise CurriculumError([Problem(file, _TOO_DEEP, _TEXT_FILE)]) from None
    if not isinstance(node, MappingNode):
        found = "an empty file" if node is None else "a list" if isinstance(node, SequenceNode) else "a single value"
        raise CurriculumError([Problem(f"{file}:1:1", f"found {found}, expected a curriculum", _BEGINNING)])
    document = Document(file)
    reader = _Reader(document)
    document.data = reader.value(node, ())
    if reader.findings:
        raise CurriculumError(document.problems(reader.findings))
    return document


def suggestion(word: str, known: Iterable[str]) -> str:
    """`, did you mean `x`?`, or the known words when none is like it."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f", did you mean `{close[0]}`?" if close else f"; known here: {', '.join(known) or 'nothing'}"


#: No count, seed or size is larger, and not every larger one can be reckoned with as a float.
_LARGEST = 2**63 - 1


class _Reader:
    """Turns YAML nodes into plain data and notes the place of each."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.findings: list[Finding] = []
        self._open: list[Node] = []

    def value(self, node: Node, path: DataPath) -> Any:
        self.document.values[path] = _line_column(node)
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if len(self._open) >= _DEEPEST:
            self.findings.append(Finding(path, _TOO_DEEP, "look for a bracket or an indentation too many"))
            return None
        if any(node is opened for opened in self._open):
            text = "found an alias inside its own anchor, expected an end to it"
            self.findings.append(Finding(path, text, "write out what the alias stands for"))
            return None
        self._open.append(node)
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, path)
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        finally:
            self._open.pop()

    def _mapping(self, node: MappingNode, path: DataPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            if str(key.tag) == _TAG + "merge":
                self._merge(value, path, result)
        written: dict[str, Node] = {}
        for key, value in node.value:
            if str(key.tag) == _TAG + "merge":
                continue
            if not isinstance(key, ScalarNode):
                text = "found a list or a mapping as a key, expected a word"
                self.findings.append(Finding(path, text, "quote a key that begins with a bracket"))
                continue
            name = key.value
            here = (*path, name)
            self.document.keys[here] = _line_column(key)
            if name in written:
                line = _line_column(written[name])[0]
                text = f"`{name}` twice in one mapping, first in line {line}, expected once"
                self.findings.append(Finding(here, text, f"remove one of the two `{name}`", at_key=True))
            written[name] = key
            result[name] = self.value(value, here)
            if isinstance(value, ScalarNode) and value.start_mark.index == value.end_mark.index:
                # An empty value is marked where the next token begins, lines below it perhaps.
                self.document.values[here] = self.document.keys[here]
        return result

    def _merge(self, node: Node, path: DataPath, result: dict[str, Any]) -> None:
        """`<<: *anchor` or `<<: [*first, *second]`: of several, the first wins; own keys win over both."""
        own_place = self.document.values[path]
        for source in reversed(node.value) if isinstance(node, SequenceNode) else [node]:
            if isinstance(source, MappingNode):
                result.update(self.value(source, path))
            else:
                text = "found `<<` without a mapping, expected `<<: *anchor`"
                self.findings.append(Finding(path, text, "quote `<<` where it is a key of your own"))
        self.document.values[path] = own_place

    def _scalar(self, node: ScalarNode, path: DataPath) -> Any:
        tag = str(node.tag)
        if tag in _TEXT_TAGS:
            return node.value
        if tag not in _TYPED_TAGS:
            hint = f'quote text that begins with `!`: "{tag}"' if tag.startswith("!") else "leave the tag out"
            self.findings.append(Finding(path, f"found a value tagged {tag}, expected plain YAML", hint))
            return None
        try:
            value = _yaml().constructor.construct_object(node)
        except ValueError:
            text = f"found {node.value[:40]!r}, expected a number or quoted text"
            self.findings.append(Finding(path, text, "quote it to make it text"))
            return None
        if isinstance(value, int) and abs(value) > _LARGEST:
            text = f"found a whole number of {len(node.value)} characters, expected one of 64 bits"
            self.findings.append(Finding(path, text, "look for digits too many, or quote it to make it text"))
            return None
        return value


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _line_column(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _unreadable(file: str, error: Exception) -> Problem:
    if isinstance(error, FileNotFoundError):
        return Problem(file, "no such file, expected a curriculum", "give the path of a curriculum file")
    if isinstance(error, UnicodeDecodeError):
        return Problem(file, f"found a byte that is not UTF-8 at offset {error.start}, expected UTF-8 text", _TEXT_FILE)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Problem(file, f"cannot be read ({reason}), expected a curriculum", _TEXT_FILE)


def _syntax(file: str, error: YAMLError) -> Problem:
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return Problem(file, f"not YAML: {str(error).splitlines()[0]}", _TEXT_FILE)
    mark = error.problem_mark
    place = f"{file}:{mark.line + 1}:{mark.column + 1}"
    if "'\\t'" in str(error.problem):
        return Problem(place, "found a tab, expected spaces", "YAML is indented with spaces")
    if "<document start>" in str(error.problem):
        return Problem(place, "not YAML: expected a mapping, `key: value` in every line", _BEGINNING)
    text = " ".join(filter(None, [error.context, str(error.problem)]))
    hint = "look at this line and the one before it: a bracket, a quote, a colon or the indentation"
    if "alias" in text:
        hint = "quote text that begins with `*`"
    return Problem(place, f"not YAML: {text}", hint)


def _parse_value(text: str) -> Any:
    document = Document("--set")
    reader = _Reader(document)
    try:
        node = _yaml().compose(text)
    except RecursionError:
        raise _RefusedError(_TOO_DEEP, "look for a bracket too many") from None
    except YAMLError as error:
        problem = _syntax("--set", error)
        raise _RefusedError(
            f"found {text!r}: {problem.text}", "quote the value for YAML as well as for the shell"
        ) from None
    value = None if node is None else reader.value(node, ())
    if reader.findings:
        raise _RefusedError(reader.findings[0].text, reader.findings[0].hint)
    return value


def _step(target: Any, tokens: Sequence[str], path: DataPath) -> tuple[str | int, list[str]]:
    """The next key or index on the way of a dotted key, and the tokens after it."""
    if isinstance(target, dict):
        return tokens[0], list(tokens[1:])
    here = ".".join(map(str, path))
    if not isinstance(target, list):
        raise _RefusedError(f"`{here}` is a single value, expected nothing after it")
    if tokens[0].isdecimal():
        if int(tokens[0]) < len(target):
            return int(tokens[0]), list(tokens[1:])
        raise _RefusedError(f"found index {tokens[0]}, expected 0 to {len(target) - 1}", "indices count from 0")
    names = [item.get("name") if isinstance(item, dict) else None for item in target]
    # A stage's name may hold dots itself, so the longest name that fits is taken.
    for length in range(len(tokens), 0, -1):
        name = ".".join(tokens[:length])
        if name in names:
            return names.index(name), list(tokens[length:])
    known = suggestion(tokens[0], [name for name in names if isinstance(name, str)])
    raise _RefusedError(f"no `{tokens[0]}` in `{here}`{known}", "name a stage, or count from 0")
