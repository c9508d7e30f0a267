"""Training samples from a file: LLaVA-style conversations, messages, prompt + completion, or plain text.

Standard library only. Image paths are relative to the file's folder, which they must not leave, links followed;
absolute ones are taken at their word. Images come before the first turn of the user.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Speakers of a LLaVA-style file, as chat templates call them.
ROLES = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}

#: Stands for an image in LLaVA-style text.
PLACEHOLDER = "<image>"

#: What may be named as a data file, and what to do with other formats.
_FORMATS = (
    ".jsonl, .json, .txt or the selection.json of a selection\n"
    "hint: other formats, such as .parquet, are datasets of a curriculum's `data:`"
)

#: How many problems of a file one error lists.
PROBLEMS_SHOWN = 5


#: What stands between the text of an error and its hint.
_HINT = "\nhint: "


class DataError(ValueError):
    """A data file or a sample in it cannot be used; the message says where and ends with a hint."""

    @property
    def text(self) -> str:
        """The message without its hint."""
        return str(self).partition(_HINT)[0]

    @property
    def hint(self) -> str | None:
        """The hint alone, where there is one."""
        return str(self).partition(_HINT)[2] or None


@dataclass(frozen=True)
class Sample:
    """One training sample.

    Attributes:
        id: names the sample in messages; the file's own, or "FILE:NUMBER" counted from 0.
        columns: what TRL trains on: {"prompt", "completion"} (only the completion is trained), {"messages"} or
            {"text"}. Turns are {"role", "content"} with text as content.
        images: image files (absolute), in order.
        meta: the file's own facts about the sample; {} where it has none.
        depth: depth maps of the images (absolute); looked at only where they are trained on.
        embedded: contents of the image files, where the data hold them; `images` is then ().
    """

    id: str
    columns: dict[str, Any]
    images: tuple[str, ...]
    meta: Mapping[str, Any]
    depth: tuple[str, ...] = ()
    embedded: tuple[bytes, ...] = ()


def read_samples(path: Path, keep_messages: bool = False) -> list[Sample]:
    """All samples of a .jsonl, .json (a list) or .txt (one sample a paragraph) file, in the file's order.

    Args:
        path: the data file.
        keep_messages: conversations stay whole ({"messages"}, trained where `assistant_only_loss` says) instead of
            being parted into prompt and completion.

    Raises:
        DataError: no such file, another format, or samples that cannot be used, the first few named with line numbers.
    """
    samples: list[Sample] = []
    problems: list[str] = []
    for number, (where, record) in enumerate(_records(path)):
        try:
            samples.append(sample_of(record, path.parent, f"{path.name}:{number}", keep_messages))
        except DataError as error:
            problems.append(f"{where}: {error}")
    if problems:
        shown = problems[:PROBLEMS_SHOWN]
        rest = len(problems) - len(shown)
        more = f"\n... and {rest} more" if rest else ""
        raise DataError("\n".join(shown) + more + "\nhint: docs/data.md describes the sample formats")
    if not samples:
        raise DataError(f"{path} holds no samples\nhint: check that the file was written to its end")
    return samples


def sample_of(
    record: Any, folder: Path, name: str, keep_messages: bool = False, embedded: Sequence[bytes] | None = None
) -> Sample:
    """One record of a data file as a sample.

    Args:
        record: the parsed JSON object.
        folder: where its relative image paths start.
        name: the sample's id where the record has none.
        keep_messages: see `read_samples`.
        embedded: contents of its image files, for data that hold them; None: the record names files.

    Raises:
        DataError: the record cannot be used, or an image file is missing.
    """
    if not isinstance(record, dict):
        found = f"not JSON: {record}" if isinstance(record, ValueError | RecursionError) else type(record).__name__
        raise DataError(f"expected a JSON object, found {found}")
    record = present(record)
    images = _images(record, folder) if embedded is None else ()
    return Sample(
        id=str(record.get("id", name)),
        columns=_columns(record, len(images if embedded is None else embedded), keep_messages),
        images=images,
        meta=record.get("meta") or {},
        depth=_depth(record.get("depth"), folder),
        embedded=tuple(embedded or ()),
    )


def present(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a record has: null is a field that is not there, as tables write where a row has no value."""
    return {name: value for name, value in record.items() if value is not None}


def named_images(record: Mapping[str, Any]) -> Any:
    """What names a record's images, unjudged: its `images`, else its `image`; None for neither."""
    return next((found for name in ("images", "image") if (found := record.get(name)) is not None), None)


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """(where, record) pairs; an unreadable line is a record that `sample_of` refuses."""
    if path.suffix not in (".jsonl", ".json", ".txt"):
        raise DataError(f"data file {path} has an unknown format, expected {_FORMATS}")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"data file {path} cannot be read: {error}\nhint: name a .jsonl, .json or .txt file") from None
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}:{number}", _parsed(line)
    elif path.suffix == ".json":
        records = _parsed(text)
        if isinstance(records, Exception):
            raise DataError(f"{path} is not JSON: {records}\nhint: check that the file was written to its end")
        if not isinstance(records, list):
            raise DataError(f"{path} should hold a JSON list of samples\nhint: one object a line needs the name .jsonl")
        for number, record in enumerate(records):
            yield f"{path}: sample {number}", record
    else:
        for number, paragraph in enumerate(part.strip() for part in text.split("\n\n")):
            if paragraph:
                yield f"{path}: paragraph {number}", {"text": paragraph}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits, and very deep nesting
        return error


def _images(record: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    found = named_images(record) or []
    names = [found] if isinstance(found, str) else found
    if not _are_names(names):
        raise DataError(f"expected image paths, found {found!r}")
    if outside := [name for name in names if leaves(name)]:
        raise DataError(f"expected image paths inside {folder.absolute()}, found {', '.join(outside)}")
    paths = [str(folder.absolute() / name) for name in names]
    missing = [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113 - quicker, at every access
    if missing:
        raise DataError(f"image file not found: {', '.join(missing)}")
    return tuple(paths)


def _depth(found: Any, folder: Path) -> tuple[str, ...]:
    """Paths of depth maps; () for anything else, which matters only where depth is trained on.

    Anything else are also paths that leave the folder.
    """
    names = [found] if isinstance(found, str) else found
    if not _are_names(names) or any(leaves(name) for name in names):
        return ()
    return tuple(str(folder.absolute() / name) for name in names)


def leaves(name: str) -> bool:
    """Whether a relative path leads out of the folder that it starts at by `..`.

    Absolute paths and links of somebody's own folder are their own say; a dataset of a curriculum is held to its folder
    through links as well.
    """
    return os.path.normpath(name).split(os.sep, 1)[0] == os.pardir


def _are_names(found: Any) -> bool:
    return isinstance(found, list) and all(isinstance(name, str) for name in found)


def _columns(record: Mapping[str, Any], images: int, keep_messages: bool) -> dict[str, Any]:
    if "conversations" in record:
        return _conversation(_turns(record["conversations"], "from", "value"), images, keep_messages)
    if "messages" in record:
        return _conversation(_turns(record["messages"], "role", "content"), images, keep_messages)
    if "prompt" in record and "completion" in record:
        return _prompt_completion(record["prompt"], record["completion"], images)
    if isinstance(record.get("text"), str) and record["text"].strip():
        return {"text": record["text"]}
    found = ", ".join(sorted(record)) or "nothing"
    raise DataError(f"expected conversations, messages, prompt and completion, or text; found {found}")


def _turns(turns: Any, role_key: str, text_key: str) -> list[dict[str, str]]:
    if not isinstance(turns, list) or not turns:
        raise DataError(f"expected a list of turns, found {turns!r}")
    messages = []
    for turn in turns:
        role, text = (turn.get(role_key), turn.get(text_key)) if isinstance(turn, dict) else (None, None)
        if not isinstance(role, str) or role not in ROLES or not isinstance(text, str):
            raise DataError(
                f"expected turns with {role_key!r} (one of {', '.join(ROLES)}) and text as {text_key!r}, found {turn!r}"
            )
        messages.append({"role": ROLES[role], "content": text})
    return messages


def _conversation(messages: list[dict[str, str]], images: int, keep_messages: bool) -> dict[str, Any]:
    _strip_placeholders(messages, images)
    if keep_messages:
        return {"messages": messages}
    answers = [turn for turn in messages if turn["role"] == "assistant"]
    if len(answers) != 1 or messages[-1] is not answers[0] or len(messages) == 1:
        raise DataError(
            f"expected a conversation that ends in its one answer, found {' '.join(turn['role'] for turn in messages)} "
            "(several answers are trained with assistant_only_loss)"
        )
    return _prompt_completion(messages[:-1], answers, images)


def _strip_placeholders(messages: Sequence[dict[str, str]], images: int) -> None:
    """Remove LLaVA's `<image>` marks where they only say what holds anyway: every image, before the first question."""
    marks = sum(turn["content"].count(PLACEHOLDER) for turn in messages)
    first = next((turn for turn in messages if turn["role"] == "user"), None)
    if images and first is None:
        raise DataError("expected a turn of the user to put the images before, found none")
    if not marks or first is None:
        return
    text = first["content"]
    for _ in range(images):
        text = text.removeprefix(PLACEHOLDER).lstrip()
    if marks != images or PLACEHOLDER in text:
        raise DataError(
            f"expected no {PLACEHOLDER}, or one for each of the {images} images at the start, found {marks} elsewhere"
        )
    first["content"] = text


def _prompt_completion(prompt: Any, completion: Any, images: int) -> dict[str, Any]:
    if isinstance(prompt, str) and isinstance(completion, str):
        if images:
            raise DataError("expected prompt and completion as turns beside images, found text")
        answer = completion
    else:
        prompt, completion = _turns(prompt, "role", "content"), _turns(completion, "role", "content")
        answer = "".join(turn["content"] for turn in completion)
    if not answer.strip():
        raise DataError("the answer is empty, so nothing would be trained")
    return {"prompt": prompt, "completion": completion}
