"""Lines that this machine cannot provoke (accelerators, quotas, kernels, schedulers), as programs print them.

Recorded: the wording is that of the public report named above each; numbers and paths are made up.
"""

from __future__ import annotations

#: Name -> (cause, lines of a log).
RECORDED: dict[str, tuple[str, str]] = {
    # https://github.com/pytorch/pytorch/issues/16417
    "CUDA out of memory": (
        "device_memory",
        (
            "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 22.00 MiB. GPU 0 has a total capacity "
            "of 23.65 GiB of which 11.06 MiB is free."
        ),
    ),
    # https://github.com/Lightning-AI/lightning-thunder/issues/1296
    "cuBLAS finds no memory": (
        "device_memory",
        "[rank0]: RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ),
    # https://github.com/hiyouga/LlamaFactory/issues/7396
    "NCCL watchdog": (
        "nccl_timeout",
        (
            "[rank4]:[E321 02:07:08.414640780 ProcessGroupNCCL.cpp:607] [Rank 4] Watchdog caught collective operation "
            "timeout: WorkNCCL(SeqNum=15, OpType=ALLREDUCE, NumelIn=4, NumelOut=4, Timeout(ms)=600000) ran for 600067 "
            "milliseconds before timing out."
        ),
    ),
    # https://github.com/NVIDIA/nccl/issues/2076
    "NCCL loses its peer": (
        "connection_lost",
        (
            "torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.hpp:268,"
            " remote process exited or there was a network error, NCCL version 2.21.5\n"
            "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely."
        ),
    ),
    # https://github.com/hkproj/pytorch-transformer-distributed/issues/1
    "NCCL finds no route": (
        "nccl_error",
        (
            "torch.distributed.DistBackendError: NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:"
            "1333, unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.18.6\n"
            "ncclSystemError: System call (e.g. socket, malloc) or external library call failed or device error."
        ),
    ),
    # https://github.com/tloen/alpaca-lora/issues/123
    "ECC": ("device_fault", "RuntimeError: CUDA error: uncorrectable ECC error encountered"),
    # https://github.com/wilicc/gpu-burn/issues/1
    "Xid": ("device_fault", "[74889.6] NVRM: Xid (PCI:0000:02:00): 79, GPU has fallen off the bus."),
    # https://github.com/huggingface/trl/issues/2996
    "an index out of range on the GPU": (
        "device_assert",
        (
            "../aten/src/ATen/native/cuda/Indexing.cu:1308: indexSelectLargeIndex: block: [58,0,0], thread: [99,0,0] "
            "Assertion `srcIndex < srcSelectDimSize` failed.\n"
            "RuntimeError: CUDA error: device-side assert triggered"
        ),
    ),
    # https://github.com/bubbliiiing/yolo3-pytorch/issues/83
    "an illegal access on the GPU": (
        "device_access",
        "RuntimeError: CUDA error: an illegal memory access was encountered",
    ),
    # https://github.com/sshaoshuai/PointRCNN/issues/128
    "no kernels for this GPU": (
        "no_device",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
    ),
    # https://github.com/tloen/alpaca-lora/issues/280
    "quota": ("quota", "OSError: [Errno 122] Disk quota exceeded"),
    # https://github.com/huggingface/transformers/issues/9732
    "a network file system went away": ("file_system", "OSError: [Errno 116] Stale file handle"),
    # https://github.com/deepspeedai/DeepSpeed/issues/6441
    "DeepSpeed on another number of processes": (
        "world_size",
        (
            "[rank5]: deepspeed.runtime.zero.utils.ZeRORuntimeException: The checkpoint being loaded used a DP world"
            " size of 8 but the current world size is 16. Automatic adjustment of ZeRO's optimizer state partitioning"
            " with a new world size is not currently supported."
        ),
    ),
    # https://github.com/Dao-AILab/flash-attention/issues/966
    "flash-attn for another torch": (
        "binary_clash",
        "ImportError: flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so: undefined symbol: _ZN3c104cuda9SetDeviceEi",
    ),
    # https://github.com/ArjunaCluster/ArjunaUsers/issues/52
    "Slurm counts a kill": (
        "memory_kill",
        (
            "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=191.batch cgroup. Some of your processes may"
            " have been killed by the cgroup out-of-memory handler."
        ),
    ),
    # https://github.com/rfjakob/earlyoom/issues/121
    "the kernel's own words": (
        "memory_kill",
        "kernel: Out of memory: Kill process 27541 (python) score 572 or sacrifice child",
    ),
    # https://github.com/ZettaAI/zetta_utils/issues/671
    "Slurm's time limit": (
        "cancelled",
        "slurmstepd: error: *** JOB 494583 ON node1 CANCELLED AT 2024-04-20T09:09:37 DUE TO TIME LIMIT ***",
    ),
    # https://github.com/huggingface/transformers/issues/21129
    "429 in an older transformers": (
        "hub_busy",
        (
            "OSError: There was a specific connection error when trying to load somebody/something:\n"
            "429 Client Error: Too Many Requests for url: https://huggingface.co/somebody/something/resolve/main/config.json"
        ),
    ),
    # https://github.com/agiresearch/InstructGLM/issues/3 and torch's source: what a watchdog does at its end
    "what NCCL says when it gives up": (
        "connection_lost",
        (
            "[rank1]:[E ProcessGroupNCCL.cpp:460] To avoid data inconsistency, we are taking the entire process down.\n"
            "terminate called after throwing an instance of 'std::runtime_error'"
        ),
    ),
}
