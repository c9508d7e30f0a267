"""The interpreters of a curriculum, each asked once about its versions and its stages' scripts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepladder.curriculum.spec import Curriculum
from stepladder.planning import script_facts
from stepladder.planning.resolve import environment_of, interpreter_of, script_of

#: An interpreter on a slow network disk may take its time, but not for ever.
ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Interpreter:
    """What an interpreter said.

    Attributes:
        python: as the curriculum has it.
        trouble: why it gave no answer, or None.
        versions: of python, torch, transformers, accelerate; None for a package that is not installed.
        scripts: (place, reason) by script that cannot run, None for one that can.
    """

    python: str
    trouble: str | None
    versions: dict[str, str | None]
    scripts: dict[str, tuple[str, str] | None]


def ask(curriculum: Curriculum) -> list[Interpreter]:
    """Every stage's interpreter in order; stages that share one, with the same module path, share the answer."""
    groups: dict[tuple[str, str | None], list[str]] = {}
    keys: list[tuple[str, str | None]] = []
    for stage in curriculum.stages:
        path = environment_of(curriculum, stage).get("PYTHONPATH")
        keys.append((interpreter_of(curriculum, stage), path))
        groups.setdefault(keys[-1], []).append(script_of(curriculum, stage))
    answers = {key: _ask(*key, list(dict.fromkeys(scripts))) for key, scripts in groups.items()}
    return [answers[key] for key in keys]


def _ask(python: str, module_path: str | None, scripts: list[str]) -> Interpreter:
    if python == sys.executable and module_path is None:
        return _answer(python, script_facts.inspect_scripts(scripts))
    if shutil.which(python) is None:
        return Interpreter(python, "no such program", {}, {})
    env = {**os.environ, **({} if module_path is None else {"PYTHONPATH": module_path})}
    try:
        done = subprocess.run(
            [python, "-c", Path(script_facts.__file__).read_text("utf-8")],
            input=json.dumps(scripts),
            env=env,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
        )
        return _answer(python, json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return Interpreter(python, f"no answer within {ANSWER_SECONDS} s", {}, {})
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        return Interpreter(python, f"does not run: {last}", {}, {})
    except OSError as error:
        return Interpreter(python, f"does not run: {error.strerror}", {}, {})
    except (ValueError, KeyError, TypeError):
        return Interpreter(python, "did not answer as a Python 3.10 or newer does", {}, {})


def _answer(python: str, said: Mapping[str, Any]) -> Interpreter:
    scripts = {script: None if fact is None else (fact[0], fact[1]) for script, fact in said["scripts"].items()}
    return Interpreter(python, None, dict(said["versions"]), scripts)
