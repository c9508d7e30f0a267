"""Provokes failures of training for real: `python provoking.py FOLDER [NAME...]` leaves FOLDER/NAME.log for each.

torch and transformers are imported once; every failure then happens in a process of its own, forked off that one, whose
output goes to its log as that of a stage does. Nothing is simulated: the memory is asked for, the port is held, the
processes are killed.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import datetime
import http.server
import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

#: The last processes are ended after this many seconds.
LIMIT_SECONDS = 90.0
#: What the library tries again for half a minute before it fails.
SLOW = ("hub_unreachable", "hub_down")
#: Exit code of a failure that this machine cannot provoke: no right to mount, or no compiler.
CANNOT = 77
Failure = Callable[[Path], None]


def host_memory_of_torch(folder: Path) -> None:
    import torch

    torch.empty(1 << 50)


def host_memory_of_python(folder: Path) -> None:
    bytearray(1 << 60)


def host_memory_of_numpy(folder: Path) -> None:
    import numpy

    numpy.ones(1 << 50)


def host_memory_for_a_process(folder: Path) -> None:
    """The kernel refuses memory (ENOMEM), here to a map of a file."""
    import mmap

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    mmap.mmap(-1, 1 << 40)


def disk_full_of_python(folder: Path) -> None:
    with Path("/dev/full").open("w") as file:
        file.write("a checkpoint")


def disk_full_of_torch(folder: Path) -> None:
    import torch

    torch.save({"weight": torch.zeros(1 << 16)}, "/dev/full")


def disk_full_of_safetensors(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    _small_disk(folder)
    save_file({"weight": torch.zeros(1 << 20)}, folder / "disk/model.safetensors")


def shared_memory_full(folder: Path) -> None:
    """A batch of a data worker finds /dev/shm full."""
    _small_disk(folder, Path("/dev/shm"))
    _load(_Blocks())


def shared_memory_bus_error(folder: Path) -> None:
    _load(_Dies(signal.SIGBUS))


def data_worker_killed(folder: Path) -> None:
    _load(_Dies(signal.SIGKILL))


def data_worker_fault(folder: Path) -> None:
    _load(_Dies(signal.SIGSEGV))


def data_worker_exit(folder: Path) -> None:
    _load(_Dies(None))


def data_worker_raises(folder: Path) -> None:
    _load([{"input_ids": 1}, {}])


def open_files(folder: Path) -> None:
    import torch

    resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
    torch.multiprocessing.set_sharing_strategy("file_descriptor")
    held = [torch.zeros(2).share_memory_() for _ in range(64)]
    print(len(held))


def missing_module(folder: Path) -> None:
    import flash_attention_of_nobody  # noqa: F401


def missing_file(folder: Path) -> None:
    (folder / "train/data.jsonl").read_text()


def missing_weights(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    _tiny(32).config.save_pretrained(folder / "no_weights")
    AutoModelForCausalLM.from_pretrained(folder / "no_weights")


def missing_script(folder: Path) -> None:
    os.execv(sys.executable, [sys.executable, str(folder / "train.py")])


def permission(folder: Path) -> None:
    """Not even root may run what is no program."""
    (folder / "plain.txt").write_text("no program")
    os.execv(folder / "plain.txt", ["plain.txt"])


def port_in_use_of_torch(folder: Path) -> None:
    import torch

    with _held_port() as port:
        torch.distributed.TCPStore("127.0.0.1", port, 1, is_master=True, timeout=datetime.timedelta(seconds=3))


def port_in_use_of_python(folder: Path) -> None:
    with _held_port() as port:
        http.server.HTTPServer(("127.0.0.1", port), http.server.BaseHTTPRequestHandler)


def tokenizer_changed_strict(folder: Path) -> None:
    _tiny(40).load_state_dict(_tiny(32).state_dict())


def tokenizer_changed_transformers(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    _tiny(32).save_pretrained(folder / "old")
    _tiny(40).config.save_pretrained(folder / "old")
    LlamaForCausalLM.from_pretrained(folder / "old")


def shapes(folder: Path) -> None:
    import torch

    torch.nn.Linear(4, 4).load_state_dict(torch.nn.Linear(4, 5).state_dict())


def unpickling(folder: Path) -> None:
    import torch

    torch.save({"args": argparse.Namespace(a=1)}, folder / "args.bin")
    torch.load(folder / "args.bin", weights_only=True)


def unpickling_cut_short(folder: Path) -> None:
    import torch

    (folder / "cut.bin").write_bytes(pickle.dumps(list(range(100)))[:50])
    torch.load(folder / "cut.bin", weights_only=False)


def damaged_weights(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    _tiny(32).save_pretrained(folder / "damaged")
    weights = folder / "damaged/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    LlamaForCausalLM.from_pretrained(folder / "damaged")


def no_accelerator(folder: Path) -> None:
    import torch

    torch.zeros(1).to("cuda")


def no_accelerator_for_bf16(folder: Path) -> None:
    from transformers import TrainingArguments

    TrainingArguments(output_dir=str(folder / "out"), bf16=True, tf32=True)


def syntax(folder: Path) -> None:
    (folder / "script.py").write_text("import torch\nfor step in range(3)\n    pass\n")
    os.execv(sys.executable, [sys.executable, str(folder / "script.py")])


def indentation(folder: Path) -> None:
    (folder / "script.py").write_text("def train():\n    step = 1\n      step = 2\n")
    os.execv(sys.executable, [sys.executable, str(folder / "script.py")])


def import_name(folder: Path) -> None:
    from transformers import LlamaForEverything  # noqa: F401


def import_attribute(folder: Path) -> None:
    from transformers.trainer import there_is_no_such_name  # noqa: F401


def version_clash(folder: Path) -> None:
    from transformers.utils.versions import require_version

    require_version("numpy>=99.0")


def undefined_symbol(folder: Path) -> None:
    """A shared library that was built against something else: here against nothing."""
    (folder / "built.c").write_text(
        "int aten_of_another_version(void);\nint f(void) {return aten_of_another_version();}\n"
    )
    if shutil.which("gcc") is None:
        os._exit(CANNOT)
    library = folder / "built.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "built.c"], check=True)
    ctypes.CDLL(str(library), mode=os.RTLD_NOW)


def unknown_arguments(folder: Path) -> None:
    from transformers import HfArgumentParser, TrainingArguments

    HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(["--output_dir", "o", "--max_tilse", "3"])


def unknown_arguments_of_argparse(folder: Path) -> None:
    parser = argparse.ArgumentParser("train.py")
    parser.add_argument("--data")
    parser.parse_args(["--data", "x", "--max_tilse", "3"])


def missing_arguments(folder: Path) -> None:
    parser = argparse.ArgumentParser("train.py")
    parser.add_argument("--data", required=True)
    parser.parse_args([])


def hub_offline(folder: Path) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    _from_hub_in_an_interpreter_of_its_own()


def hub_unreachable(folder: Path) -> None:
    with _held_port() as port:
        pass  # nobody listens there any more
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{port}"
    _from_hub_in_an_interpreter_of_its_own()


def hub_gated(folder: Path) -> None:
    _from_hub("403")


def hub_unauthorized(folder: Path) -> None:
    _from_hub("401")


def hub_not_found(folder: Path) -> None:
    _from_hub("404")


def hub_too_many_requests(folder: Path) -> None:
    _from_hub("429")


def hub_down(folder: Path) -> None:
    _from_hub("503")


def gloo_timeout(folder: Path) -> None:
    """Rank 1 comes to the first collective and not to the second; it is there all the time."""

    def work(rank: int) -> None:
        _gloo(rank, folder, seconds=2)
        _all_reduce(rank)
        if rank == 1:
            time.sleep(8)
        else:
            _all_reduce(rank)

    _ranks(work)


def gloo_peer_killed(folder: Path) -> None:
    """Rank 1 is killed without a word; rank 0 loses its connection."""

    def work(rank: int) -> None:
        _gloo(rank, folder, seconds=20)
        _all_reduce(rank)
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        _all_reduce(rank)

    _ranks(work)


def gloo_peer_fails(folder: Path) -> None:
    """Rank 1 finds no memory; what rank 0 then says is only what follows."""
    import torch

    def work(rank: int) -> None:
        _gloo(rank, folder, seconds=20)
        _all_reduce(rank)
        if rank == 1:
            torch.empty(1 << 50)
        _all_reduce(rank)

    _ranks(work)


def rendezvous_timeout(folder: Path) -> None:
    """Two ranks are planned, one comes."""
    import torch

    torch.distributed.TCPStore("127.0.0.1", 0, 2, is_master=True, timeout=datetime.timedelta(seconds=2))


def rendezvous_by_file_timeout(folder: Path) -> None:
    _gloo(0, folder, seconds=2)


def rank_fault(folder: Path) -> None:
    _torchrun(folder, "ctypes.string_at(0)")


def rank_killed(folder: Path) -> None:
    _torchrun(folder, "os.kill(os.getpid(), signal.SIGKILL)")


def rank_bus_error(folder: Path) -> None:
    _torchrun(folder, "os.kill(os.getpid(), signal.SIGBUS)")


def rank_instruction(folder: Path) -> None:
    _torchrun(folder, "os.kill(os.getpid(), signal.SIGILL)")


def rank_exits(folder: Path) -> None:
    _torchrun(folder, "sys.exit(3)")


def rank_stopped(folder: Path) -> None:
    _torchrun(folder, "sys.exit(75)")


def rank_abort(folder: Path) -> None:
    _torchrun(folder, "os.abort()")


def rank_raises(folder: Path) -> None:
    _torchrun(folder, "raise RuntimeError('planted trouble')")


def rank_terminated(folder: Path) -> None:
    _torchrun(folder, "os.kill(os.getpid(), signal.SIGTERM)")


def launcher_terminated(folder: Path) -> None:
    """SIGTERM reaches torchrun, as a scheduler sends it."""
    threading.Timer(6, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    _torchrun(folder, "time.sleep(30)")


def faulthandler_fault(folder: Path) -> None:
    import faulthandler

    faulthandler.enable()
    ctypes.string_at(0)


def pool_broken(folder: Path) -> None:
    """A process of a pool is killed while it works."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        pool.submit(os.kill, 0, 0).result()
        pool.submit(_kill_me).result()


def nan_of_a_plain_trainer(folder: Path) -> None:
    _train_plainly(folder, nan=True)


def interrupted(folder: Path) -> None:
    signal.raise_signal(signal.SIGINT)


def worker_refuses(folder: Path) -> None:
    os.execv(sys.executable, [sys.executable, "-m", "stepladder_worker"])


def own_words(folder: Path) -> None:
    raise KeyError("input_ids")


def chained(folder: Path) -> None:
    """What was raised last is what the script ended with; the first is only what it was busy with."""
    try:
        {}["cache"]
    except KeyError:
        disk_full_of_python(folder)


FAILURES: dict[str, Failure] = {
    name: value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__annotations__", {}) == {"folder": "Path", "return": "None"}
}


def _kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Dies:
    """A dataset in whose worker a signal is raised; None: the worker leaves without a word."""

    def __init__(self, number: int | None) -> None:
        self.number = number

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if self.number is None:
            os._exit(3)
        os.kill(os.getpid(), self.number)
        return index


class _Blocks:
    """A dataset of tensors of 4 MiB each."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> object:
        import torch

        return torch.ones(1 << 20)


def _load(dataset: object) -> None:
    from torch.utils.data import DataLoader

    for _ in DataLoader(dataset, num_workers=1, batch_size=2):  # type: ignore[arg-type, var-annotated]
        pass


def _small_disk(folder: Path, place: Path | None = None) -> None:
    """Mount a file system of 1 MiB, for this process alone (needs root)."""
    libc = ctypes.CDLL(None, use_errno=True)
    place = place or folder / "disk"
    place.mkdir(exist_ok=True)
    private, new_mounts = 1 << 18 | 1 << 14, 0x00020000
    for code in (
        libc.unshare(new_mounts),
        libc.mount(b"none", b"/", None, private, None),
        libc.mount(b"tmpfs", str(place).encode(), b"tmpfs", 0, b"size=1m"),
    ):
        if code != 0:
            os._exit(CANNOT)


def _tiny(words: int) -> object:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return LlamaForCausalLM(LlamaConfig(vocab_size=words, **sizes))


@contextlib.contextmanager
def _held_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


class _Hub(http.server.BaseHTTPRequestHandler):
    """A hub on this machine: the first part of a model's name is the status that it answers with."""

    HEADERS: ClassVar = {
        401: {"X-Error-Message": "Invalid credentials in Authorization header"},
        403: {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to model is restricted"},
        404: {"X-Error-Code": "RepoNotFound"},
        429: {"RateLimit": '"api";r=0;t=0'},
    }

    def do_GET(self) -> None:
        status = int(self.path.removeprefix("/api/models").split("/")[1])
        self.send_response(status)
        for name, value in {"Content-Length": "0", **self.HEADERS.get(status, {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        pass


def _from_hub(owner: str) -> None:
    from transformers import AutoConfig

    AutoConfig.from_pretrained(f"{owner}/something")


def _from_hub_in_an_interpreter_of_its_own() -> None:
    """Because these variables are read at import."""
    code = "from transformers import AutoConfig; AutoConfig.from_pretrained('somebody/something')"
    os.execv(sys.executable, [sys.executable, "-c", code])


def _gloo(rank: int, folder: Path, seconds: float) -> None:
    import torch

    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=seconds),
    )


def _all_reduce(rank: int) -> None:
    import torch

    torch.distributed.all_reduce(torch.ones(1))


def _ranks(work: Callable[[int], None]) -> None:
    """Two ranks, each a process; the worst of them is how this one ends."""
    children = [_forked(lambda rank=rank: work(rank)) for rank in range(2)]  # type: ignore[misc]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(next((abs(code) for code in codes if code), 0))


def _torchrun(folder: Path, trouble: str) -> None:
    """torch.distributed.run, in this process: rank 1 of two has a trouble, rank 0 waits."""
    from torch.distributed.run import main

    script = folder / "rank.py"
    script.write_text(
        f"import ctypes, os, signal, sys, time\nif os.environ['RANK'] == '0':\n    time.sleep(30)\n{trouble}\n"
    )
    main(["--nproc_per_node=2", "--master_port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", str(script)])


def _train_plainly(folder: Path, nan: bool) -> None:
    import torch
    from transformers import Trainer, TrainingArguments

    class Data(torch.utils.data.Dataset):  # type: ignore[type-arg]
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            return {"input_ids": torch.arange(4), "labels": torch.arange(4)}

    class Loses(Trainer):
        def compute_loss(self, *args: object, **kwargs: object) -> object:
            loss = super().compute_loss(*args, **kwargs)
            return loss * float("nan") if nan and self.state.global_step > 1 else loss

    args = TrainingArguments(
        str(folder / "out"), max_steps=4, logging_steps=1, use_cpu=True, report_to="none", logging_nan_inf_filter=False
    )
    Loses(model=_tiny(32), args=args, train_dataset=Data()).train()


def _forked(work: Callable[[], None]) -> int:
    """Run something in a child as a script of its own, and return its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _started(name: str, out: Path) -> int:
    folder = out / name
    folder.mkdir()

    def work() -> None:
        os.setsid()
        log = os.open(out / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        FAILURES[name](folder)

    return _forked(work)


def main(out: Path, names: list[str]) -> None:
    hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    os.environ.update({"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}", "HF_HUB_OFFLINE": "0"})
    os.environ["HF_HOME"] = str(out / "hub")
    import torch  # noqa: F401
    import transformers  # noqa: F401

    serving = _forked(hub.serve_forever)
    deadline = time.monotonic() + LIMIT_SECONDS
    running = {_started(name, out): name for name in names or FAILURES}
    while running and time.monotonic() < deadline:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child in running:
            (out / f"{running.pop(child)}.exit").write_text(str(os.waitstatus_to_exitcode(status)))
        elif not child:
            time.sleep(0.05)
    os.kill(serving, signal.SIGKILL)
    for child in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
