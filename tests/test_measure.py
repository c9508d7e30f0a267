"""Figures a sample: the lengths and losses that training would have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pointing_data import write_pointing_data
from trainers import TRL_WARNING, select, trainer_of, write_texts

pytestmark = pytest.mark.filterwarnings(TRL_WARNING)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pointing_data(tmp_path_factory.mktemp("pairs"))


class TestMeasure:
    def measured(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any], str]:
        from stepladder.trainer import measure

        code = measure.main([str(word) for word in arguments])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else {}, said.err

    def table(self, path: Path) -> dict[str, Any]:
        import pyarrow.parquet as pq

        ids, values = pq.read_table(path).columns
        return dict(zip(ids.to_pylist(), values.to_pylist(), strict=True))

    def test_lengths_are_those_of_training(
        self, vision_model: Path, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "scores.parquet"
        options = ("--model", vision_model, "--by", "length", "--max_tiles", 4, "--out", out)
        code, line, _ = self.measured(capsys, *options, "--data", select(tmp_path, pairs, repeat=2))
        found = self.table(out)
        assert (code, line["samples"], line["by"], line["max"]) == (0, 12, "length", max(found.values()))
        trainer = trainer_of(vision_model, pairs, tmp_path / "out", max_tiles=4, per_device_train_batch_size=12)
        (batch,) = trainer.get_train_dataloader()
        names = [f"s{index}" for index in trainer._order]
        assert found == dict(zip(names, batch["attention_mask"].sum(dim=1).tolist(), strict=True))

    def test_losses_are_those_of_training(
        self, text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        import torch

        path, out = write_texts(tmp_path / "texts.jsonl", 6), tmp_path / "scores.parquet"
        options = ("--model", text_model, "--by", "loss", "--out", out, "--batch_size", 4)
        code, line, _ = self.measured(capsys, *options, "--data", path)
        found = self.table(out)
        assert (code, line["samples"]) == (0, 6)
        trainer = trainer_of(text_model, path, tmp_path / "out", per_device_train_batch_size=1)
        with torch.inference_mode():
            model = trainer.model.eval()
            losses = [model(**batch).loss.item() for batch in trainer.get_train_dataloader()]
        names = [f"t{index}" for index in trainer._order]
        assert found == pytest.approx(dict(zip(names, losses, strict=True)), rel=1e-4)
        assert line["mean"] == pytest.approx(sum(losses) / 6, rel=1e-4)
        assert self.measured(capsys, *options, "--data", path, "--limit", 2)[1]["samples"] == 2

    def test_a_bad_sample_is_named_and_ends_it_unless_it_is_skipped(
        self, vision_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write_pointing_data(tmp_path, count=5)
        (tmp_path / "3_A.png").write_bytes(b"no picture")
        out = tmp_path / "scores.parquet"
        options = ("--model", vision_model, "--by", "length", "--data", path, "--out", out, "--max_tiles", 1)
        code, _, said = self.measured(capsys, *options)
        assert (code, out.exists()) == (2, False)
        assert "error: sample s3: image " in said
        assert "hint: " in said
        code, line, said = self.measured(capsys, *options, "--skip_bad")
        assert (code, line["samples"], line["left_out"]) == (0, 4, 1)
        assert "left out: sample s3: image " in said
        assert sorted(self.table(out)) == ["s0", "s1", "s2", "s4"]
