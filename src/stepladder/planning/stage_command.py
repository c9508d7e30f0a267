"""From a stage's arguments to what is launched: what is in force, the samples of a step, the commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepladder.curriculum import hf_args, rungs
from stepladder.planning import remarks
from stepladder.planning.plan import Batch, Processes, Rung

_MODULE = "module:"


def module_of(script: str) -> str | None:
    """NAME of `module:NAME`; None for a path."""
    return script.removeprefix(_MODULE) if script.startswith(_MODULE) else None


@dataclass(frozen=True)
class Launching:
    """What of a stage's launch is the same whatever its arguments.

    Attributes:
        schedule: of the curriculum.
        transformers: version in the stage's interpreter, None where not known.
        processes: training processes.
        python, plain_python: interpreters of the command with the worker and of the one without.
        worker: path of the worker.
        script: path, or `module:NAME`.
        fixed: arguments that Stepladder sets itself; None stands for none.
    """

    schedule: str
    transformers: str | None
    processes: Processes
    python: str
    plain_python: str
    worker: str
    script: str
    fixed: Mapping[str, Any]

    def with_args(self, written: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a planned stage that follow from its arguments, given as they were written."""
        args = hf_args.for_version(written, self.transformers)
        given = {name: value for name, value in {**self.fixed, **args}.items() if value is not None}
        script_argv = hf_args.argv(given)
        processes = self.processes.nproc_per_node * self.processes.nnodes
        return {
            "args": args,
            "in_force": self._in_force(args),
            "batch": Batch(*hf_args.samples_per_device_step(written), processes),
            "script_argv": script_argv,
            "argv": [*self._launcher(self.python, "--standalone"), self.worker, *self._target(), *script_argv],
            "plain_argv": [*self._launcher(self.plain_python), *self._target(), *script_argv],
        }

    def rungs(self, written: Mapping[str, Any], on_oom: Sequence[Mapping[str, Any]]) -> tuple[Rung, ...]:
        """The stage on every rung of its ladder, and what each changes of the one above."""
        found: list[Rung] = []
        above = written
        for below in rungs.ladder(written, on_oom):
            found.append(Rung(changes=remarks.differences(above, below), **self.with_args(below)))
            above = below
        return tuple(found)

    def _in_force(self, args: Mapping[str, Any]) -> dict[str, Any]:
        stated = hf_args.in_force(args)
        # The script's scheduler keeps its own base learning rate: nothing may write over it.
        return {name: value for name, value in stated.items() if self.schedule != "script" or name != "learning_rate"}

    def _launcher(self, python: str, *options: str) -> tuple[str, ...]:
        shape = (f"--nnodes={self.processes.nnodes}", f"--nproc_per_node={self.processes.nproc_per_node}")
        return (python, "-m", "torch.distributed.run", *options, *shape)

    def _target(self) -> tuple[str, ...]:
        module = module_of(self.script)
        return (self.script,) if module is None else ("-m", module)
