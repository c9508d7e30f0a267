"""Tars in the layout of WebDataset: members next to each other with the same stem make one sample."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from stepladder.data.samples import named_images
from stepladder.data.sieve import parsed
from stepladder.data.sources.batch import BLOCK, LARGEST_RECORD, Batch, SourceError

_IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"})
_TEXTS = (".json", ".txt")
_HINT = "write the tar again; `tar --list` shows how far it can be read"

#: A tar ends with two blocks of zeros; without them it was cut off.
_END = bytes(1024)


@dataclass
class _Group:
    """The members of one sample: the key they share, bytes by what follows it, and why they make none."""

    key: str
    trouble: str | None = None
    members: dict[str, bytes] = field(default_factory=dict)

    def refuse(self, why: str) -> None:
        """The first reason stays; what the members hold is let go of."""
        self.trouble = self.trouble or why
        self.members.clear()

    def refusal(self, member: tarfile.TarInfo, ending: str) -> str | None:
        """Why a member that is to come cannot be one beside those that are here."""
        if not member.isreg():
            return f"member {member.name} is a link, expected a file"
        if ending in self.members:
            return f"member {member.name} is there twice"
        for suffix in _TEXTS:
            found = [other for other in (*self.members, ending) if f".{other}".endswith(suffix)]
            if len(found) > 1:
                return f"{' and '.join(found)} of one sample, expected one {suffix}: its name ends at the first dot"
        return None


def read_tar(path: Path) -> Iterator[Batch]:
    """Samples of a tar: the object of its `.json`, the text of its `.txt`, its images embedded.

    Images come in the order in which the object names them, else in that of the tar. Members that are neither are
    left aside. The key becomes the `id` of a sample that has none.

    Raises:
        SourceError: the tar is damaged or cut off; what is missing cannot be counted then.
    """
    records: list[str] = []
    lines: list[int] = []
    images: list[list[bytes]] = []
    left_out: list[tuple[int, str]] = []
    size = 0
    for number, group in enumerate(_groups(path), start=1):
        try:
            record, found = _sample(group)
        except ValueError as error:
            left_out.append((number, f"sample {group.key}: {error}"))
            continue
        records.append(record)
        lines.append(number)
        images.append(found)
        size += len(record) + sum(map(len, found))
        if size > BLOCK:
            yield _batch(path, records, lines, images, left_out)
            records, lines, images, left_out, size = [], [], [], [], 0
    yield _batch(path, records, lines, images, left_out)


def _batch(
    path: Path, records: list[str], lines: list[int], images: list[list[bytes]], left_out: list[tuple[int, str]]
) -> Batch:
    return Batch(
        path,
        pa.array(records, pa.large_string()),
        pa.array(lines, pa.int64()),
        pa.array(images, pa.list_(pa.large_binary())),
        tuple(left_out),
    )


def _groups(path: Path) -> Iterator[_Group]:
    group: _Group | None = None
    seen: set[str] = set()
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                place = PurePosixPath(member.name)
                if not (member.isreg() or member.issym() or member.islnk()) or place.name.startswith("."):
                    continue
                stem, _, ending = place.name.partition(".")
                key = str(place.with_name(stem))
                if group is None or group.key != key:
                    if group is not None:
                        yield group
                    group = _Group(
                        key, "was there before, expected its members next to each other" if key in seen else None
                    )
                    seen.add(key)
                if _wanted(ending):
                    _take(group, ending.lower(), tar, member, path)
        _check_end(path)
    except (tarfile.TarError, EOFError, OSError) as error:
        after = f" after sample {group.key}" if group else ""
        raise SourceError(str(path), f"cannot be read{after}: {error}", _HINT) from None
    if group is not None:
        yield group


def _wanted(ending: str) -> bool:
    suffix = f".{ending}".lower()
    return suffix.endswith((*_TEXTS, *_IMAGES))


def _take(group: _Group, ending: str, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if why := group.trouble or group.refusal(member, ending):
        group.refuse(why)
    else:
        group.members[ending] = _content(tar, member, path)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> bytes:
    if member.size > LARGEST_RECORD:
        text = f"member {member.name} has {member.size >> 20} MiB, expected at most {LARGEST_RECORD >> 20}"
        raise SourceError(str(path), text, "leave it out of the tar, or make it smaller")
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) != member.size:
        raise tarfile.ReadError(f"member {member.name} is cut off")
    return content


def _check_end(path: Path) -> None:
    """tarfile takes a tar that was cut between two members for a whole one."""
    with path.open("rb") as file:
        file.seek(-min(len(_END), path.stat().st_size), 2)
        if file.read() != _END:
            raise tarfile.ReadError("the tar is cut off, its end is missing")


def _sample(group: _Group) -> tuple[str, list[bytes]]:
    """(record, images); raises ValueError where the members make no sample."""
    if group.trouble:
        raise ValueError(group.trouble)
    record: dict[str, Any] = {}
    for ending, content in group.members.items():
        if ending.rpartition(".")[2] == "json":
            found = parsed(content.decode("utf-8-sig"))
            if not isinstance(found, dict):
                raise ValueError(f"expected a JSON object in .{ending}, found {type(found).__name__}")
            record |= found
    texts = [content for ending, content in group.members.items() if ending.rpartition(".")[2] == "txt"]
    if texts:
        record.setdefault("text", texts[0].decode("utf-8-sig").strip())
    if not record:
        raise ValueError("expected a .json or .txt member, found none")
    record.setdefault("id", group.key)
    text = json.dumps(record, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair in a text, expected Unicode") from None
    return text, _images(record, group)


def _images(record: dict[str, Any], group: _Group) -> list[bytes]:
    found = {ending: content for ending, content in group.members.items() if f".{ending}".endswith(tuple(_IMAGES))}
    named = named_images(record)
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return list(found.values())
    ordered = []
    for name in names:
        ending = PurePosixPath(name).name.removeprefix(f"{PurePosixPath(group.key).name}.").lower()
        if ending not in found:
            raise ValueError(f"image {name} is not among its members ({', '.join(found) or 'no image'})")
        ordered.append(found[ending])
    return ordered
