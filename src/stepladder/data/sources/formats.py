"""Which files a dataset consists of, in which format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stepladder.data.mixture import Source
from stepladder.data.sources import json_list, tables, tars, text
from stepladder.data.sources.batch import Batch, SourceError

_READERS: dict[str, Callable[[Path], Iterator[Batch]]] = {
    "jsonl": text.read_jsonl,
    "txt": text.read_txt,
    "json": json_list.read_json_list,
    "parquet": tables.read_parquet,
    "datasets": tables.read_arrow,
    "webdataset": tars.read_tar,
}
_SUFFIXES = {".jsonl": "jsonl", ".txt": "txt", ".json": "json", ".parquet": "parquet", ".tar": "webdataset"}
_EXPECTED = "a .jsonl, .json, .parquet, .txt or .tar file, a folder of .tar files, or a folder saved by `datasets`"


@dataclass(frozen=True)
class SourceFiles:
    """What a dataset consists of.

    Attributes:
        path: the dataset, absolute.
        format: a key of the readers.
        files: in order, at least one.
        folder: where relative names of images start: as the dataset says, else beside the file, or in its folder.
    """

    path: Path
    format: str
    files: tuple[Path, ...]
    folder: Path

    def batches(self, file: Path) -> Iterator[Batch]:
        """The records of one of the files; raises SourceError where it cannot be read on."""
        return _READERS[self.format](file)


def source_files(source: Source) -> SourceFiles:
    """The files of a dataset.

    Raises:
        SourceError: nothing there, or no format that is known.
    """
    path = Path(source.path).expanduser().absolute()
    if not path.exists():
        raise SourceError(str(path), f"dataset `{source.name}` not found", f"expected {_EXPECTED}")
    kind = source.format or (_folder_format(path) if path.is_dir() else _SUFFIXES.get(path.suffix.lower()))
    if kind is None:
        raise SourceError(str(path), f"the format of dataset `{source.name}` is unknown", f"expected {_EXPECTED}")
    return SourceFiles(path, kind, tuple(_files(path, kind)), _image_folder(source, path))


def _image_folder(source: Source, path: Path) -> Path:
    if source.image_folder is None:
        return path if path.is_dir() else path.parent
    folder = Path(source.image_folder).expanduser().absolute()
    if not folder.is_dir():
        text = f"the image_folder {folder} of dataset `{source.name}` is no folder"
        raise SourceError(str(path), text, "name the folder that the images' names start at")
    return folder


def _folder_format(path: Path) -> str | None:
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return "datasets"
    return "webdataset" if any(path.glob("*.tar")) else None


def _files(path: Path, kind: str) -> list[Path]:
    if kind == "datasets":
        return tables.arrow_files(path)
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.tar")) if kind == "webdataset" else []
    if not found:
        raise SourceError(str(path), f"a folder without files of the format {kind}", f"expected {_EXPECTED}")
    return found
