"""How often the kernel killed a process for memory: of this control group, as containers and Slurm jobs have one.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.events) and cgroup-v1/memory.html (oom_control).
"""

from __future__ import annotations

import re
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def memory_kills() -> int:
    """Processes of this control group that were killed for memory so far; 0 where the system does not tell."""
    for path in _counters():
        try:
            found = _COUNT.search(path.read_text("ascii"))
        except (OSError, UnicodeDecodeError):
            continue
        if found:
            return int(found[1])
    return 0


def _counters() -> list[Path]:
    """Where the count may stand, the likeliest first. Inside a container its own group is mounted as the root."""
    try:
        lines = _OWN.read_text("utf-8").splitlines()
    except OSError:
        return []
    own = {controllers: path.lstrip("/") for _, controllers, path in (line.split(":", 2) for line in lines)}
    unified, first = own.get("", ""), own.get("memory", "")
    return [
        _ROOT / unified / "memory.events",
        _ROOT / "memory.events",
        _ROOT / "memory" / first / "memory.oom_control",
        _ROOT / "memory" / "memory.oom_control",
    ]
