"""JSON documents that show by themselves whether they are as they were written: `seal` is a digest of all the rest.

A seal shows what disks, crashes and editors do to a document that is still well formed. It keeps out nobody: who makes
a document anew can seal it. Standard library only, Python 3.10 and newer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEY = "seal"


def sealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document as JSON gives it back, with its seal; one that it had is replaced."""
    plain: dict[str, Any] = json.loads(json.dumps(document))
    plain.pop(KEY, None)
    return {**plain, KEY: _digest(plain)}


def broken(document: Mapping[str, Any]) -> str | None:
    """Why a document read from a file is not as it was written; None for one that is."""
    if KEY not in document:
        return "it has no seal"
    rest = {key: value for key, value in document.items() if key != KEY}
    return None if document[KEY] == _digest(rest) else "it was changed after it was written (its seal is broken)"


def _digest(plain: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the document in the one spelling that does not depend on the file's."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
