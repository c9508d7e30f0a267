"""What a check finds, and every kind of finding by name; docs/data.md lists them. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        severity: "error" where training fails, learns something wrong or is measured on what it saw; else "warning".
        left_out: `on_bad_sample: skip` leaves such samples out, and it is a warning then.
        title: what it is, for people.
    """

    severity: str
    left_out: bool
    title: str


#: In the order of a report. The names are part of the JSON that `data check` prints.
KINDS: dict[str, Kind] = {
    "not_json": Kind(ERROR, True, "records that are no JSON objects"),
    "unreadable": Kind(ERROR, True, "records that the trainer cannot read"),
    "placeholders": Kind(ERROR, True, "<image> placeholders that are not one for each image"),
    "outside": Kind(ERROR, True, "image paths that leave the dataset's folder"),
    "image_missing": Kind(ERROR, True, "missing images"),
    "image_broken": Kind(ERROR, True, "images that do not decode"),
    "extra_outside": Kind(ERROR, False, "depth or mask paths that leave the dataset's folder"),
    "extra_missing": Kind(ERROR, False, "missing depth or mask files"),
    "extra_broken": Kind(ERROR, False, "depth or mask files that do not decode"),
    "image_size": Kind(WARNING, False, "images of another size than the record says"),
    "image_extent": Kind(WARNING, False, "tiny or giant images"),
    "extra_size": Kind(WARNING, False, "depth or masks of another size than their image"),
    "meta": Kind(WARNING, False, "records whose meta is no object"),
    "answer": Kind(ERROR, False, "answers that are neither a point nor NOT_VISIBLE"),
    "coordinates": Kind(ERROR, False, "points outside [0, 1]"),
    "is_neg": Kind(ERROR, False, "answers that contradict meta.is_neg"),
    "duplicate_id": Kind(ERROR, False, "ids that several records of a dataset have"),
    "shared_id": Kind(WARNING, False, "ids that records of several datasets of a mixture have"),
    "twice": Kind(WARNING, False, "samples that come through several parts of a mixture"),
    "leak_id": Kind(ERROR, False, "training samples with the id of an evaluation sample"),
    "leak_scene": Kind(ERROR, False, "training samples of a scene that evaluation uses"),
    "leak_image": Kind(ERROR, False, "training samples with an image that evaluation uses"),
    "small": Kind(ERROR, False, "selections smaller than one global batch"),
    "too_long": Kind(ERROR, False, "samples longer than the stage's token limit"),
}


def severity_of(kind: str, skip: bool) -> str:
    """The severity of a kind of finding; `skip` where bad samples are left out."""
    return WARNING if skip and KINDS[kind].left_out else KINDS[kind].severity


@dataclass(frozen=True)
class Fault:
    """Something wrong with one record, before it is known where the record is used.

    Attributes:
        kind: a name in `KINDS`.
        found: what was found.
        expected: what was expected.
    """

    kind: str
    found: str
    expected: str


@dataclass(frozen=True)
class Finding:
    """A fault, and where.

    Attributes:
        kind: a name in `KINDS`.
        severity: "error" or "warning".
        stages: stages that train on it; empty where only evaluation does.
        dataset: name of the dataset; empty where the finding is of a whole mixture.
        id: the sample's id, None where it has none or no single sample is meant.
        where: `FILE:LINE`, or what else names the place.
        found: what was found.
        expected: what was expected.
    """

    kind: str
    severity: str
    stages: tuple[str, ...]
    dataset: str
    id: str | None
    where: str
    found: str
    expected: str
