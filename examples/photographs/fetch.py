"""The photographs: from a folder, or from Debian's package `opencv-doc`, which ships OpenCV's example images.

graf1.png, graf3.png, H1to3p.xml    a painted wall from two places, and the homography between them
aloeL.jpg, aloeR.jpg, aloeGT.png    a plant from two cameras side by side, and the disparity of every pixel
"""

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

NAMES = ("graf1.png", "graf3.png", "H1to3p.xml", "aloeL.jpg", "aloeR.jpg", "aloeGT.png")
PACKAGE = "opencv-doc"
#: Where the installed package has them.
INSTALLED = Path("/usr/share/doc/opencv-doc/examples/data")

_HINT = (
    "hint: give --images FOLDER with these six files, as they are in OpenCV's samples/data; on Debian and Ubuntu "
    "`apt-get update` lets the package be found"
)


class FetchError(Exception):
    """The photographs are not to be had; the message ends with a hint."""


def photographs(folder: Path | None, out: Path) -> Path:
    """The folder that holds the photographs.

    Args:
        folder: where they are already; None: where the package is installed, else they are fetched into `out`.
        out: made only when they are fetched.

    Raises:
        FetchError: some are missing in `folder`, or they cannot be fetched.
    """
    if folder is not None:
        missing = [name for name in NAMES if not (folder / name).is_file()]
        if missing:
            raise FetchError(f"{folder} has no {', '.join(missing)}\n{_HINT}")
        return folder
    for place in (INSTALLED, out):
        if all((place / name).is_file() for name in NAMES):
            return place
    _fetch(out)
    return out


def _fetch(out: Path) -> None:
    """Download the package, which needs neither root nor an installation, and take the six files out of it."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            raise FetchError(f"the photographs are fetched with {program}, which is not here\n{_HINT}")
    with tempfile.TemporaryDirectory() as scratch:
        _run(["apt-get", "-oAcquire::http::Timeout=30", "-oAcquire::Retries=1", "download", PACKAGE], scratch)
        (package,) = Path(scratch).glob(f"{PACKAGE}_*.deb")
        _unpack(package, Path(scratch))
        out.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            partial = out / f".{name}.{os.getpid()}"
            shutil.copyfile(Path(scratch) / name, partial)
            partial.replace(out / name)


def _run(argv: list[str], folder: str) -> None:
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise FetchError(f"`{' '.join(argv)}` said: {said}\n{_HINT}")


def _unpack(package: Path, out: Path) -> None:
    reader = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
    with reader, tarfile.open(fileobj=reader.stdout, mode="r|") as files:
        wanted = (file for file in files if Path(file.name).name in NAMES and "/examples/" in file.name)
        for file in wanted:
            content = files.extractfile(file)
            if content is not None:
                (out / Path(file.name).name).write_bytes(content.read())
    missing = [name for name in NAMES if not (out / name).is_file()]
    if missing:
        raise FetchError(f"{package.name} has no {', '.join(missing)}\n{_HINT}")
