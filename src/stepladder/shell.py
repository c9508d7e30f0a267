"""A stage as a shell command that can be pasted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from stepladder_worker.redaction import is_secret

_NEW_LINE = " \\\n"


def render_command(
    argv: Sequence[str], env: Mapping[str, str], folder: str | None = None, log: str | None = None
) -> str:
    """The environment, the program and one option with its values a line, quoted for a POSIX shell.

    `folder` is gone to first, in a subshell; the output is appended to `log`, so that the exit code stays the
    program's.

    A secret is not written out: `NAME="$NAME"` takes it from the shell that the command is pasted into.
    """
    variables = [f'{name}="${name}"' if is_secret(name) else f"{name}={shlex.quote(env[name])}" for name in env]
    first, *rest = _groups(argv)
    lines = [*variables, first, *(f"    {group}" for group in rest)]
    if log is not None:
        lines.append(f"    >> {shlex.quote(log)} 2>&1")
    text = _NEW_LINE.join(lines)
    return text if folder is None else f"(cd {shlex.quote(folder)} &&{_NEW_LINE}{text})"


def _groups(argv: Sequence[str]) -> list[str]:
    """Options with their values; `python -m torch.distributed.run` stays on one line."""
    groups = [[shlex.quote(word) for word in argv[:3]]]
    for word in argv[3:]:
        option = re.match(r"--?[A-Za-z]", word) is not None
        previous = groups[-1][0]
        if option or not previous.startswith("-") or (previous.startswith("--") and "=" in previous):
            groups.append([])
        groups[-1].append(shlex.quote(word))
    return [" ".join(group) for group in groups]
