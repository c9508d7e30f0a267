"""Packs the worker into one file that any interpreter can run, also one where Stepladder is not installed."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import stepladder_worker
from stepladder_worker import own_files

_MAIN = "import sys\nfrom stepladder_worker.__main__ import main\nsys.exit(main(sys.argv[1:]))\n"

#: Every entry has the same date, so that the same worker makes the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def pack_worker(target: Path) -> None:
    """Write the worker's zipapp to `target`, atomically; an equal one that is there already is left alone."""
    content = _archive(Path(stepladder_worker.__file__).parent)
    if target.is_file() and target.read_bytes() == content:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = own_files.beside(target)
    with own_files.fresh(temporary) as file:
        file.write(content)
    temporary.replace(target)


def _archive(package: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py", _DATE), _MAIN)
        for path in sorted(package.rglob("*.py")):
            name = Path(package.name) / path.relative_to(package)
            archive.writestr(zipfile.ZipInfo(name.as_posix(), _DATE), path.read_bytes())
    return buffer.getvalue()
