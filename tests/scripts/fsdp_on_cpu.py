"""Import it first: accelerate then shards on the CPU as well, where it makes DDP of FSDP2 without a word.

The one change is the kind of processes that accelerate believes to have, in this process alone.
"""

from accelerate import state

_prepared = state.AcceleratorState.__init__


def _sharding(self, *args, **kwargs):
    _prepared(self, *args, **kwargs)
    if kwargs.get("fsdp_plugin") is not None:
        self.fsdp_plugin = kwargs["fsdp_plugin"]
        self.distributed_type = state.PartialState._shared_state["distributed_type"] = state.DistributedType.FSDP


state.AcceleratorState.__init__ = _sharding
