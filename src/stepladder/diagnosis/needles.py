"""Plain texts that a line must contain for a pattern to be found in it: most lines of a log are passed over by them."""

from __future__ import annotations

import re

#: A piece of a pattern: an escaped character or class, a set, a quantifier, the start or end of a group, any other one.
_PIECE = re.compile(r"\\.|\[\^?\]?[^\]]*\]|[*+?]\??|\{[\d,]+\}\??|\((?:\?(?:P<\w+>|[:=!]))?|.", re.DOTALL)
_QUANTIFIERS = ("*", "+", "?", "{")


def needles(pattern: str) -> tuple[str, ...]:
    """Texts without digits, one of which is in every text in which the pattern is found.

    Raises ValueError for a pattern that needs no text of at least three characters.
    """
    found = _alternatives(_PIECE.findall(pattern))
    if any(len(text) < 3 for text in found):
        raise ValueError(f"the pattern {pattern!r} can be found in nearly every line")
    return found


def _alternatives(pieces: list[str]) -> tuple[str, ...]:
    """The needles of a sequence: those of each of its alternatives."""
    depth, parts = 0, [[]]  # type: tuple[int, list[list[str]]]
    for piece in pieces:
        depth += piece.startswith("(") - (piece == ")")
        if piece == "|" and depth == 0:
            parts.append([])
        else:
            parts[-1].append(piece)
    return tuple(text for part in parts for text in _best(part))


def _best(pieces: list[str]) -> tuple[str, ...]:
    """Of what a sequence must contain the part that says most: a run of characters, or the needles of a group."""
    runs: list[tuple[str, ...]] = [("",)]
    run = ""
    index = 0
    while index < len(pieces):
        piece = pieces[index]
        end = _end_of_group(pieces, index) if piece.startswith("(") else index
        repeated = pieces[end + 1 : end + 2] and pieces[end + 1].startswith(_QUANTIFIERS)
        character = _character(piece)
        if character is not None and not repeated:
            run += character
        else:
            runs.append((run,))
            run = ""
            if end > index and not repeated and piece[:3] not in ("(?=", "(?!"):
                runs.append(_alternatives(pieces[index + 1 : end]))
        index = end + 1
    runs.append((run,))
    return max(runs, key=lambda texts: min(map(len, texts)))


def _character(piece: str) -> str | None:
    """What a piece stands for, if that is one character and no digit."""
    if piece.startswith("\\"):
        return None if piece[1].isalnum() else piece[1]
    return None if len(piece) > 1 or piece in ".^$*+?()" or piece.isdigit() else piece


def _end_of_group(pieces: list[str], start: int) -> int:
    depth = 0
    for index in range(start, len(pieces)):
        depth += pieces[index].startswith("(") - (pieces[index] == ")")
        if depth == 0:
            return index
    raise ValueError("a group of a pattern does not end")
