"""Signatures of what machines do: memory, accelerators, connections, signals."""

from __future__ import annotations

from stepladder.diagnosis.signature import Signature

#: What is seen of a process that was killed: it can say nothing itself.
_SEEN_OF_A_KILL = ("data_worker_ended", "nccl_timeout", "gloo_timeout", "rendezvous_timeout")

MEMORY = (
    Signature(
        "device_memory",
        "root",
        "the accelerator has no memory left",
        "make a micro-batch smaller and accumulate more, or declare it as a step of `on_oom`",
        (
            r"(?:CUDA|HIP|XPU|NPU|MPS backend) out of memory",
            r"CUDA error: out of memory|CUDA_ERROR_OUT_OF_MEMORY|CUBLAS_STATUS_ALLOC_FAILED",
        ),
        memory=True,
    ),
    Signature(
        "open_files",
        "root",
        "too many files are open at once",
        "raise `ulimit -n`, or use fewer data workers",
        (r"Too many open files", r"received 0 items of ancdata"),
    ),
    Signature(
        "shared_memory",
        "root",
        "shared memory (/dev/shm) is full",
        "use fewer data workers, or give the container more shared memory (`--shm-size`, `--ipc=host`)",
        (
            r"unable to (?:allocate shared memory|open shared memory object|mmap \d+ bytes from file </torch)",
            r"unable to (?:write to|resize) file </torch",
            r"insufficient shared memory|workers are out of shared memory",
            r"DataLoader worker .* is killed by signal: Bus error",
            r"No space left on device: '/dev/shm/",
        ),
        memory=True,
    ),
    Signature(
        "data_worker_killed",
        "root",
        "a data worker was killed from outside (SIGKILL)",
        "where memory ran out (`dmesg` tells), use fewer data workers or a smaller prefetch, or give the job more",
        (r"DataLoader worker \(pid \d+\) is killed by signal: Killed",),
        retry=True,
        memory_if_told=True,
    ),
    Signature(
        "data_worker_fault",
        "root",
        "a data worker crashed in compiled code ({what})",
        "find the sample with dataloader_num_workers 0: an image or a library that reads it is the usual reason",
        (
            r"DataLoader worker \(pid \d+\) is killed by signal: (?P<what>[A-Z][a-z]+ (?:fault|instruction|point.*))\.",
            r"Unexpected (?P<what>segmentation fault|floating-point exception) encountered in worker",
        ),
    ),
    Signature(
        "data_worker_ended",
        "symptom",
        "a data worker ended without saying why",
        "dataloader_num_workers 0 shows its error; without one, look whether memory ran out",
        (r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) exited unexpectedly", r"DataLoader worker .* is killed by signal"),
    ),
    Signature(
        "host_memory",
        "root",
        "the machine has no memory left for the program",
        "use fewer data workers, a smaller batch or less data at once, or give the job more memory",
        (
            r"DefaultCPUAllocator: (?:can't|not enough)",
            r"MemoryError\b|\[Errno 12\]|Cannot allocate memory|std::bad_alloc",
            r"ArrowMemoryError|malloc of size \d+ failed",
        ),
        memory=True,
    ),
    Signature(
        "memory_kill",
        "confirmation",
        "the kernel killed a process because memory ran out",
        "use fewer data workers, a smaller batch or less data at once, or give the job more memory",
        (
            r"Memory cgroup out of memory|Out of memory: Kill(?:ed)? process|invoked oom-killer|OOMKilled",
            r"[Dd]etected \d+ oom[-_]kill event|\btask \d+: Out Of Memory",
            r"the memory control group counted \d+ kill",
        ),
        retry=True,
        memory=True,
        replaces=(*_SEEN_OF_A_KILL, "process_killed"),
        # The count is of the whole control group, so the killed process may have been anybody's.
        replaces_beside={
            "exception": ("process_killed", "data_worker_ended", "pool_broken"),
            # An error takes connections away as well; a hang does not.
            "hang": ("process_killed", "data_worker_ended", "pool_broken", "connection_lost"),
        },
    ),
)

DEVICE = (
    Signature(
        "device_fault",
        "root",
        "an accelerator has a hardware fault ({what})",
        "train on another one, and have this one looked at if it happens again",
        (
            r"(?P<what>uncorrectable ECC error)",
            r"(?P<what>GPU has fallen off the bus)",
            r"(?P<what>Xid \(PCI:[0-9a-fA-F:.]+\): \d+)",
            r"(?P<what>GPU is lost)",
            r"CUDA error: (?P<what>unspecified launch failure|hardware stack error|unknown error)",
        ),
        retry=True,
    ),
    Signature(
        "device_assert",
        "root",
        "an index was out of range on the accelerator",
        "look for token ids beyond the embedding and labels beyond the classes; on a CPU the line is named",
        (r"device-side assert triggered", r"\.cu:\d+: .*Assertion `.*` failed"),
    ),
    Signature(
        "device_access",
        "root",
        "a kernel on the accelerator read or wrote where it may not",
        "CUDA_LAUNCH_BLOCKING=1 names the call; suspect custom kernels and their versions first",
        (r"illegal memory access|misaligned address|illegal instruction was encountered",),
    ),
    Signature(
        "no_device",
        "root",
        "the accelerator that was asked for is not there, or this torch cannot use it",
        "look at `nvidia-smi` and CUDA_VISIBLE_DEVICES, and install a torch built for this accelerator",
        (
            r"Torch not compiled with CUDA enabled|Found no NVIDIA driver|No CUDA GPUs are available",
            r"invalid device ordinal|no kernel image is available",
            r"driver version is insufficient|driver on your system is too old",
            r"Your setup doesn't support bf16|no NVIDIA GPU detected",
        ),
    ),
)

COMMUNICATION = (
    Signature(
        "nccl_timeout",
        "symptom",
        "processes waited for one of them in a collective operation until NCCL gave up",
        "look for the process that did not come: its own error, slow data, or a branch that only some processes take",
        (r"Watchdog caught collective operation timeout|Timeout at NCCL work|NCCL.*\bran for \d+ milliseconds",),
        retry=True,
    ),
    Signature(
        "gloo_timeout",
        "symptom",
        "processes waited for one of them in a collective operation until gloo gave up",
        "look for the process that did not come: its own error, slow data, or a branch that only some processes take",
        (r"Timed out waiting \d+ms for (?:recv|send) operation|Application timeout caused pair closure",),
        retry=True,
    ),
    Signature(
        "rendezvous_timeout",
        "symptom",
        "not all processes came together at the start",
        "look for a process or machine that did not start, and whether all of them name the same address and port",
        (
            r"Timed out after \d+ seconds waiting for clients|DistStoreError|RuntimeError: Wait timeout",
            r"store based barrier|RendezvousTimeoutError|connectFullMesh failed|Socket Timeout",
            r"client socket has timed out",
        ),
        retry=True,
    ),
    Signature(
        "nccl_error",
        "root",
        "NCCL could not set up or keep up communication ({what})",
        "NCCL_DEBUG=INFO says why: the network interface (NCCL_SOCKET_IFNAME), shared memory, or the driver",
        (
            r"(?P<what>unhandled system error|unhandled cuda error|ncclSystemError|ncclUnhandledCudaError)",
            r"(?P<what>ncclInternalError|ncclInvalidUsage)",
        ),
        retry=True,
    ),
    Signature(
        "port_in_use",
        "root",
        "a port that the training needs is in use",
        "end what holds it (a training that was left behind?), or choose another port",
        (r"Address already in use|address already in use|EADDRINUSE",),
        retry=True,
    ),
)

FOLLOWS = (
    Signature(
        "connection_lost",
        "cascade",
        "a process lost its connection to another one, and what ended that one is not in this log",
        "look for the cause in the logs of the other machines, or whether the network between them was interrupted",
        (
            r"pair\.cc:\d+\].*(?:Connection closed by peer|Connection reset by peer|Broken pipe)",
            r"remote process exited or there was a network error|ncclRemoteError",
            r"(?:TCPStore|recvValue|sendBytes|recvBytes|TCPStoreBackend).*(?:reset by peer|Broken pipe|failed)",
            r"failed to recv, got 0 bytes",
            r"DistNetworkError: .*(?:reset by peer|Connection closed|Broken pipe)",
            r"Some NCCL operations have failed or timed out|NCCL watchdog thread terminated",
            r"To avoid data inconsistency, we are taking the entire process down",
        ),
        retry=True,
    ),
    Signature(
        "pool_broken",
        "cascade",
        "a process of a pool was ended from outside while it worked",
        "look whether memory ran out; fewer processes at once need less of it",
        (
            r"BrokenProcessPool|process in the process pool was terminated abruptly",
            r"One of the subprocesses has abruptly died",
        ),
        retry=True,
    ),
)

SIGNALS = (
    Signature(
        "process_fault",
        "root",
        "a training process crashed in compiled code (SIGSEGV)",
        "suspect compiled extensions and their versions first; PYTHONFAULTHANDLER=1 shows where it was",
        (r"exitcode\s*: -11\b|Signal 11 \(SIGSEGV\)|Fatal Python error: Segmentation|Segmentation fault",),
        retry=True,
    ),
    Signature(
        "process_bus_error",
        "root",
        "a training process could not reach memory that is a file (SIGBUS)",
        "look whether /dev/shm or the disk is full, and whether a file was cut while it was mapped into memory",
        (r"exitcode\s*: -7\b|Signal 7 \(SIGBUS\)|Fatal Python error: Bus error|Bus error",),
        retry=True,
    ),
    Signature(
        "process_instruction",
        "root",
        "a training process used an instruction that this CPU does not have, or divided by zero",
        "install libraries that were built for this machine",
        (r"exitcode\s*: -[48]\b|Signal (?:4 \(SIGILL|8 \(SIGFPE)\)|Illegal instruction|Floating point exception",),
    ),
    Signature(
        "process_killed",
        "confirmation",
        "a training process was killed from outside (SIGKILL)",
        "often the kernel does that when memory runs out (`dmesg` tells); else a person or the scheduler did",
        (r"exitcode\s*: -9\b|Signal 9 \(SIGKILL\)|terminated with signal SIGKILL|^Killed$",),
        retry=True,
        replaces=(*_SEEN_OF_A_KILL, "exception"),
    ),
    Signature(
        "process_aborted",
        "cascade",
        "a training process ended itself (SIGABRT) without a word that is known",
        "read what stands before it in the log",
        (
            r"exitcode\s*: -6\b|Signal 6 \(SIGABRT\)|Fatal Python error: Aborted|Aborted \(core dumped\)",
            r"terminate called (?:after|without)",
        ),
    ),
    Signature(
        "terminated",
        "cascade",
        "it was asked to end from outside (SIGTERM)",
        "a scheduler, a person or the machine's shutdown did that; the same command continues",
        (
            r"exitcode\s*: -15\b|Signal 15 \(SIGTERM\)|got signal: (?:15|1)\b|SignalException",
            r"Received (?:15|1) death signal",
        ),
        retry=True,
    ),
    Signature(
        "stopped",
        "cascade",
        "it was stopped, with a checkpoint (exit code 75)",
        "the same command continues",
        (r"failed \(exitcode: 75\)|exitcode  : 75 \(pid",),
        retry=True,
    ),
    Signature(
        "launcher_report",
        "cascade",
        "a training process ended with an error that is not in this log",
        "run the stage's command by hand (`stepladder command`), or look at the script's own log",
        (
            r"ChildFailedError|Sending process \d+ closing signal",
            r"failed \(exitcode: \d+\)|exitcode  : [1-9]\d* \(pid",
        ),
    ),
    Signature(
        "wrapped",
        "cascade",
        "an error of another process was passed on",
        "read what stands below that line in the log",
        (r"Caught \w+ in DataLoader worker process", r"-- Process \d+ terminated with the following error"),
    ),
)
