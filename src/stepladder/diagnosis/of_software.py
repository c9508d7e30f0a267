"""Signatures of what scripts, packages, models and files do, and of Stepladder's own words."""

from __future__ import annotations

from stepladder.diagnosis.signature import Signature

#: What a parameter is called that has a row for each token.
_PER_TOKEN = r"\S*(?:embed_tokens|lm_head|word_embeddings|wte|embed_in|embed_out|shared|tok_embeddings)\S*"

OWN_WORDS = (
    Signature(
        "nan",
        "root",
        "the loss or a weight stopped being finite: {what}",
        "lower the learning rate, clip gradients, or look at the samples of that step",
        (
            r"(?P<what>the loss is not finite at step \d+)",
            r"(?P<what>\S+ is not finite before saving step \d+)",
            r"(?P<what>'(?:train_)?loss': 'nan'|'(?:train_)?loss': nan\b)",
            r"(?P<what>'(?:train_)?loss': 'inf'|'(?:train_)?loss': inf\b)",
        ),
    ),
    Signature(
        "refused",
        "root",
        "{what}",
        "{hint}",
        (r"(?:BoundaryError: |^stepladder: )(?:stage \S+: )?(?P<what>.+); hint: (?P<hint>.+)",),
    ),
)

HUB = (
    Signature(
        "hub_access",
        "root",
        "the hub refuses access to a model or dataset",
        "accept its terms on its page, and log in with a token that may read it (`hf auth login`, HF_TOKEN)",
        (
            r"40[13] Client Error|Client error '40[13]|HTTP Error 40[13]",
            r"GatedRepoError|access a gated repo|Invalid (?:credentials|user token)",
        ),
    ),
    Signature(
        "hub_missing",
        "root",
        "there is no such model, dataset or file on the hub or in this folder",
        "correct the name; a private one needs a token (HF_TOKEN)",
        (
            r"RepositoryNotFoundError|RevisionNotFoundError|RemoteEntryNotFoundError|404 Client Error",
            r"Client error '404|is not a valid model identifier|DatasetNotFoundError",
        ),
    ),
    Signature(
        "hub_busy",
        "root",
        "the hub answers no more requests for now (429)",
        "wait and start again, log in with a token, or set HF_HUB_OFFLINE=1 once everything is in the cache",
        (r"429 Client Error|429 Too Many Requests|429 Server Error",),
        retry=True,
    ),
    Signature(
        "hub_offline",
        "root",
        "a model or dataset is not in the cache, and the hub may not be asked (HF_HUB_OFFLINE)",
        "download it on a machine with a network first, or name a local folder",
        (r"outgoing traffic has been disabled|OfflineModeIsEnabled|Cannot reach \S+: offline mode",),
    ),
    Signature(
        "hub_unreachable",
        "root",
        "the hub cannot be reached",
        "look at the network and HF_ENDPOINT, or name a local folder and set HF_HUB_OFFLINE=1",
        (
            r"Server error '5\d\d|\b50[0234] Server Error",
            r"We couldn't connect to 'http|error happened while trying to locate the file on the Hub",
            r"(?:ConnectionError|ConnectError|ReadTimeout|ConnectTimeout|MaxRetryError)\b.*http",
            r"Temporary failure in name resolution|Name or service not known",
        ),
        retry=True,
    ),
)

FILES = (
    Signature(
        "quota",
        "root",
        "the disk quota is used up",
        "delete what is not needed, or write to another place; `save_total_limit` keeps fewer checkpoints",
        (r"Disk quota exceeded|\[Errno 122\]|os error 122",),
    ),
    Signature(
        "disk_full",
        "root",
        "the disk is full",
        "make room, or write to another disk; `save_total_limit` keeps fewer checkpoints",
        (
            r"No space left on device|\[Errno 28\]|os error 28",
            r"PytorchStreamWriter failed writing|inline_container\.cc:\d+\] \. unexpected pos",
        ),
    ),
    Signature(
        "file_system",
        "root",
        "the file system failed while a file was read or written ({what})",
        "look at the disk or the network file system; if it is back, the same command continues",
        (r"(?P<what>Input/output error|Stale file handle|Transport endpoint is not connected|Remote I/O error)",),
        retry=True,
    ),
    Signature(
        "permission",
        "root",
        "something may not be read, written or run",
        "give this user the right to it, or choose another place",
        (r"PermissionError|Permission denied|\[Errno 13\]|Read-only file system",),
    ),
    Signature(
        "missing_module",
        "root",
        "the Python module {module} is not installed in this interpreter",
        "install it there, or name the right interpreter with `python:`",
        (
            r"(?:ModuleNotFoundError|ImportError): No module named '?(?P<module>[\w.]+)",
            r"python\S*: No module named (?P<module>[\w.]+)",
        ),
    ),
    Signature(
        "missing_weights",
        "root",
        "the model's folder has no weights",
        "name a folder with model.safetensors, or look whether its copy or download was cut short",
        (r"OSError: Error no file named",),
    ),
    Signature(
        "missing_file",
        "root",
        "a file or folder does not exist: {file}",
        "correct the path; relative paths start at the folder that the run was started in",
        (
            r"FileNotFoundError: .*?(?P<file>'[^']+'|\"[^\"]+\")",
            r"can't open file (?P<file>'[^']*')",
            r"No such file or directory: (?P<file>'[^']*')",
            r"FileNotFoundError: (?P<file>.*)",
        ),
    ),
    Signature(
        "unpickling",
        "root",
        "a file was not unpickled, because it may run code: it holds more than tensors",
        "use a file of your own or in safetensors; allow the types only where you trust who wrote it",
        (r"Weights only load failed|Unsupported (?:global|operand)|is no part of a random state",),
    ),
    Signature(
        "damaged_file",
        "root",
        "a file is damaged or cut short",
        "make or download it again; of a checkpoint, go on from the one before",
        (
            r"SafetensorError: Error while deserializing|PytorchStreamReader failed|failed finding central directory",
            r"pickle data was truncated|Ran out of input|JSONDecodeError|not a zip archive|BadZipFile",
            r"ArrowInvalid: .*(?:footer|magic bytes)|UnidentifiedImageError|image file is truncated",
        ),
    ),
)

MODELS = (
    Signature(
        "vocabulary",
        "root",
        "the weights are of another number of tokens than the model that loads them ({name})",
        "use the tokenizer of the checkpoint, or resize the embeddings before training and save that model",
        (rf"size mismatch for (?P<name>{_PER_TOKEN}):",),
    ),
    Signature(
        "shapes",
        "root",
        "weights do not have the shape that the model expects ({what})",
        "load them into the model they were saved from; embed_tokens and lm_head differ where the tokenizer changed",
        (r"size mismatch for (?P<what>\S+):", r"For details look at (?P<what>the above report)"),
    ),
    Signature(
        "world_size",
        "root",
        "DeepSpeed's checkpoint was written by {before} processes and is loaded by {now}",
        "train with as many processes as before, or let Stepladder hand it over (`hook: true`)",
        (r"used a DP world size of (?P<before>\d+) but the current world size is (?P<now>\d+)",),
    ),
)

CODE = (
    Signature(
        "syntax",
        "root",
        "the script is not valid Python: {what}",
        "correct the line above it in the log; a newer Python may have been meant (`python:`)",
        (r"(?:SyntaxError|IndentationError|TabError): (?P<what>.+)",),
    ),
    Signature(
        "binary_clash",
        "root",
        "a compiled library was built against another version of what it uses ({what})",
        "reinstall it for the installed torch, CUDA and Python (flash-attn and bitsandbytes above all)",
        (
            r"undefined symbol: (?P<what>\S+)",
            r"version `(?P<what>GLIBC\S*)' not found",
            r"(?P<what>numpy\.dtype size changed|module compiled against \S+ version \S+|_ARRAY_API not found)",
            r"ImportError: (?P<what>lib\S+\.so\S*): cannot open shared object file",
        ),
    ),
    Signature(
        "version_clash",
        "root",
        "installed packages do not fit each other: {what}",
        "install the versions that the script was written for, in this interpreter",
        (
            r"(?P<what>cannot import name .+)",
            r"(?P<what>\S+ is required for a normal functioning of this module, but found .+)",
            r"(?P<what>(?:ContextualVersionConflict|VersionConflict|DistributionNotFound): .+)",
            r"ImportError: (?P<what>.* requires .* but .*)",
            r"PackageNotFoundError: (?P<what>.+)",
        ),
    ),
    Signature(
        "arguments",
        "root",
        "the script does not take its arguments: {what}",
        "correct `args` in the curriculum: the script's own parser decides which names there are",
        (
            r"error: (?P<what>unrecognized arguments: .+|the following arguments are required: .+)",
            r"error: (?P<what>argument \S+: .+|ambiguous option: .+)",
            r"(?P<what>not used by the HfArgumentParser: .+)",
            r"TypeError: (?P<what>.*got an unexpected keyword argument .+)",
        ),
    ),
    Signature(
        "interrupted",
        "root",
        "somebody interrupted it (Ctrl-C)",
        "the same command continues it",
        (r"^KeyboardInterrupt\b", r"got signal: 2\b", r"\(exitcode: -2\)"),
    ),
    Signature(
        "cancelled",
        "root",
        "the scheduler ended the job ({why})",
        "submit it again: the same command continues; `time_limit` ends a stage with a checkpoint before that",
        (r"slurmstepd: error: .*(?P<why>CANCELLED AT .*?) \*\*\*", r"(?P<why>DUE TO (?:TIME LIMIT|PREEMPTION))"),
        retry=True,
    ),
)
