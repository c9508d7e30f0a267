"""The text of a curriculum for the copy that a run keeps: without secrets, and of a fork under its own name."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode

from stepladder.errors import CurriculumError, Problem
from stepladder_worker import redaction

_ENDLESS = 1 << 20  # no line is wrapped
_HIDDEN = f'"{redaction.HIDDEN}"'


def hidden_secrets(text: str, name: str) -> str:
    """The text of the file `name` with `***` for the value of every secret in an `env:`, however it is quoted, and
    wherever a known secret stands otherwise. The rest stays as it was written.

    Raises CurriculumError for a text that is not YAML.
    """
    try:
        node = YAML(typ="safe", pure=True).compose(text)
    except YAMLError:
        raise CurriculumError([Problem(name, "not YAML any more, expected the curriculum as it was read")]) from None
    # From the end, so that the places before a change stay what they are; an anchor may be met several times.
    for start, end in sorted(set(_places(node, within=False)), reverse=True):
        line_end = "\n" if text[start:end].endswith("\n") else ""
        text = f"{text[:start]}{_HIDDEN}{line_end}{text[end:]}"
    hidden: str = redaction.hide(text)
    return hidden


def with_values(text: str, values: Mapping[str, str]) -> str:
    """The text of a curriculum with other values of keys at its top; comments stay."""
    round_trip, copy = YAML(typ="rt"), io.StringIO()  # builds plain values only, as the safe loader does
    round_trip.preserve_quotes, round_trip.width = True, _ENDLESS
    content = round_trip.load(text)
    content.update(values)
    round_trip.dump(content, copy)
    return copy.getvalue()


def _places(node: Node | None, within: bool) -> Iterator[tuple[int, int]]:
    """Where the values of secrets begin and end; `within` an `env:`."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else ""
            if within and redaction.is_secret(name) and isinstance(value, ScalarNode):
                yield value.start_mark.index, value.end_mark.index
            else:
                yield from _places(value, name == "env" or (within and name == "<<"))
    elif node is not None and not isinstance(node, ScalarNode):
        for item in node.value:
            yield from _places(item, within)
