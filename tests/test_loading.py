"""Loading for training: selections, shared tiles, depth, an unbroken chain, and what cannot be loaded."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pointing_data import run_python, write_pointing_data
from stepladder.data.samples import DataError, read_samples
from stepladder_worker.windows import CHUNK
from support import stepladder
from trainers import TRL_WARNING, drawn, load, select, trainer_of, write_texts

pytestmark = pytest.mark.filterwarnings(TRL_WARNING)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pointing_data(tmp_path_factory.mktemp("pairs"))


class TestSelections:
    def test_rows_become_samples_in_the_order_of_the_selection(self, pairs: Path, tmp_path: Path) -> None:
        other = write_pointing_data(tmp_path / "other", count=4).rename(tmp_path / "other" / "other.jsonl")
        path = select(tmp_path, pairs, other)
        data = load(path)
        assert (data.length, len(data.dataset), data.at_access) == (16, 16, True)
        by_id = {sample.id: sample for sample in read_samples(pairs)}
        examples = drawn(data, range(16))
        assert sorted(example["id"] for example in examples) == sorted([*by_id, "s0", "s1", "s2", "s3"])
        for example in examples:
            assert example["completion"] == by_id[example["id"]].columns["completion"]
            assert [image.size for image in example["images"]] == [(160, 90)] * 2
        assert [e["id"] for e in data.dataset] == [e["id"] for e in examples]
        assert [data.order(16 + p) for p in range(16)] != [data.order(p) for p in range(16)]

    def test_records_stay_in_the_file_and_reach_spawned_workers(self, pairs: Path, tmp_path: Path) -> None:
        data = load(select(tmp_path, pairs, where="not meta.is_neg"))
        assert data.length == 6
        packed = pickle.dumps(data.dataset)
        assert len(packed) < 4000
        again = pickle.loads(packed)
        assert again[data.order(3)]["id"] == data.dataset[data.order(3)]["id"]

    def test_embedded_images_and_files_mix(self, pairs: Path, tmp_path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        contents = [(pairs.parent / name).read_bytes() for name in ("5_A.png", "5_B.png")]
        turns = [{"role": "user", "content": "where"}, {"role": "assistant", "content": "there"}]
        row = {"id": "held", "messages": turns, "images": [{"bytes": content, "path": None} for content in contents]}
        pq.write_table(pa.Table.from_pylist([row]), tmp_path / "held.parquet")
        data = load(select(tmp_path, pairs, tmp_path / "held.parquet"))
        examples = {example["id"]: example for example in drawn(data, range(13))}
        assert len(examples) == 13
        assert examples["held"]["completion"] == [turns[1]]
        bytes_of = [[image.tobytes() for image in examples[name]["images"]] for name in ("held", "s5")]
        assert bytes_of[0] == bytes_of[1]

    def test_text_has_the_tokens_that_trl_prepares(self, text_model: Path, tmp_path: Path) -> None:
        """All kinds of text, next to what SFTTrainer makes of the same file at its start."""
        turns = [{"role": "user", "content": "how many"}, {"role": "assistant", "content": "two"}]
        kinds = {
            "plain": {"text": "a text of some words"},
            "parted": {"prompt": "three and one", "completion": " is four"},
            "chat": {"conversations": [{"from": "human", "value": "how"}, {"from": "gpt", "value": "so"}]},
            "turns": {"messages": turns},
        }
        for name, record in kinds.items():
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps({"id": i, **record}) + "\n" for i in range(3)), "utf-8")
            (expected,) = trainer_of(text_model, path, tmp_path / "out").get_train_dataloader()
            trainer = trainer_of(text_model, select(tmp_path / name, path), tmp_path / "out")
            (found,) = trainer.get_train_dataloader()
            for key in ("input_ids", "labels"):
                assert found[key].tolist() == expected[key].tolist(), name

    def test_a_sample_that_does_not_fit_is_named_when_it_comes(self, text_model: Path, tmp_path: Path) -> None:
        path = tmp_path / "long.jsonl"
        path.write_text('{"text": "short"}\n{"id": "novel", "text": "' + "word and " * 50 + '"}\n', "utf-8")
        trainer = trainer_of(text_model, select(tmp_path, path), tmp_path / "out", max_length=50)
        with pytest.raises(DataError, match=r"sample novel has \d+ tokens(.|\n)*hint: "):
            list(trainer.get_train_dataloader())


@pytest.mark.full
def test_a_chain_with_windows_on_two_processes_is_one_run(text_model: Path, tmp_path: Path) -> None:
    """150 samples of two files, 12 a step: stage two begins within an epoch that 4 do not divide, and ends in the next.

    Two data workers, accumulation of 3, windows of 64: the bytes are those of the unbroken run, without Stepladder.
    """
    halves = [write_texts(tmp_path / f"{name}.jsonl", count) for name, count in (("a", 100), ("b", 50))]
    args = {
        "data": str(select(tmp_path, *halves)),
        "length_window": CHUNK,
        "dataloader_num_workers": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 3,
        "use_cpu": True,
        "report_to": "none",
        "learning_rate": 1e-3,
        "lr_scheduler_type": "constant",
        "gradient_checkpointing": False,
    }
    words = [word for name, value in args.items() for word in (f"--{name}", value)]
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, "-m", "stepladder.trainer")
    straight = run_python(
        *(*launch, "--model_name_or_path", text_model, "--output_dir", tmp_path / "straight", "--max_steps", 16),
        *("--save_strategy", "no", *words),
    )
    assert straight.returncode == 0, straight.stderr
    curriculum = {
        "name": "chain",
        "model_name_or_path": str(text_model),
        "output_dir": "run",
        "args": args,
        "script": "module:stepladder.trainer",
        "launcher": {"nproc_per_node": 2},
        "handover": {"data": "continue"},
        "stages": [{"name": "one", "steps": 7}, {"name": "two", "steps": 9}],
    }
    (tmp_path / "chain.yaml").write_text(json.dumps(curriculum), "utf-8")
    chain = stepladder("run", "chain.yaml", cwd=tmp_path)
    assert chain.returncode == 0, chain.stderr
    found, expected = (path / "model.safetensors" for path in (tmp_path / "run/2-two", tmp_path / "straight"))
    assert found.read_bytes() == expected.read_bytes()
    facts = json.loads((tmp_path / "run/attempts/2-two/1/result.json").read_text())["evidence"]["data"]
    assert (facts["length"], facts["first_batches"][0]["position"]) == (150, 84)


class TestTilesAndDepth:
    @pytest.mark.parametrize(
        ("max_tiles", "images", "expected"), [(8, 2, [4, 4]), (8, 3, [3, 3, 2]), (2, 3, [1, 1, 1]), (6, 0, [])]
    )
    def test_shares(self, max_tiles: int, images: int, expected: list[int]) -> None:
        from stepladder.trainer.tiles import shares

        assert shares(max_tiles, images) == expected

    def test_images_of_a_sample_share_tiles(self, vision_model: Path) -> None:
        """The grids foretold are those transformers cuts, each sample of a batch by its own number of images."""
        from transformers import AutoProcessor

        from stepladder.trainer.tiles import TilesError, grids, limit_tiles

        processor = AutoProcessor.from_pretrained(vision_model)
        limit_tiles(processor, "idefics3", 9, share=True)
        image = Image.new("RGB", (400, 400), (200, 30, 90))
        expected = {1: [(3, 3)], 2: [(2, 2), (2, 2)], 3: [(1, 1)] * 3}
        for count, shapes in expected.items():
            assert grids(processor.image_processor, [image.size] * count) == shapes
        cut = processor.image_processor([[image] * count for count in expected], return_row_col_info=True)
        for rows, columns, shapes in zip(cut["rows"], cut["cols"], expected.values(), strict=True):
            assert [(max(1, r), max(1, c)) for r, c in zip(rows, columns, strict=True)] == shapes
        with pytest.raises(TilesError, match="without max_tiles"):
            limit_tiles(processor, "idefics3", None, share=True)

    def test_depth_maps_come_after_all_images(self, tmp_path: Path) -> None:
        data, maps = depth_data(tmp_path)
        images = load(data, use_depth=True).dataset[0]["images"]
        assert [image.size for image in images] == [(160, 90), (160, 90), (4, 2), (4, 2)]
        assert np.asarray(images[2])[..., 0].tolist() == [[255, 128, 1, 0], [255, 255, 255, 255]]
        assert np.asarray(images[3])[..., 1].tolist() == [[0] * 4] * 2
        assert {image.mode for image in images} == {"RGB"}
        assert len(load(data).dataset[0]["images"]) == 2
        chosen = drawn(load(select(tmp_path, data), use_depth=True), [0])[0]["images"]
        assert [image.tobytes() for image in chosen] == [image.tobytes() for image in images]
        maps[0].unlink()
        with pytest.raises(DataError, match=r"sample s0: depth map .*0_A_depth.png cannot be decoded(.|\n)*hint: "):
            load(data, use_depth=True).dataset[0]

    def test_a_sample_without_depth_is_refused(self, pairs: Path) -> None:
        dataset = load(pairs, use_depth=True).dataset
        with pytest.raises(DataError, match=r"sample s0 has 0 depth maps for 2 images(.|\n)*hint: "):
            dataset[0]


def depth_data(folder: Path) -> tuple[Path, list[Path]]:
    """One sample with depth maps: distances with a hole, and a map where nothing was measured."""
    path = write_pointing_data(folder, count=1)
    record = {**json.loads(path.read_text("utf-8")), "depth": ["0_A_depth.png", "0_B_depth.png"]}
    maps = [folder / name for name in record["depth"]]
    for file, rows in zip(maps, ([[1000, 2000, 3000, 0], [1000] * 4], [[0] * 4] * 2), strict=True):
        Image.fromarray(np.array(rows, np.uint16)).save(file)
    path.write_text(json.dumps(record) + "\n", "utf-8")
    return path, maps


class TestTrouble:
    def test_a_broken_picture_ends_the_run_with_sample_file_and_hint(self, vision_model: Path, tmp_path: Path) -> None:
        path = write_pointing_data(tmp_path / "data", count=4)
        whole = (tmp_path / "data" / "2_B.png").read_bytes()
        (tmp_path / "data" / "2_B.png").write_bytes(whole[: len(whole) // 2])
        done = run_python(
            *("-m", "stepladder.trainer", "--model_name_or_path", vision_model, "--data", select(tmp_path, path)),
            *("--output_dir", tmp_path / "out", "--max_steps", 4, "--use_cpu", "true", "--save_strategy", "no"),
            *("--per_device_train_batch_size", 1, "--dataloader_num_workers", 2, "--disable_tqdm", "true"),
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        error = done.stderr[done.stderr.index("error: ") :]
        assert error.startswith(f"error: sample s2: image {tmp_path / 'data' / '2_B.png'} cannot be decoded: ")
        assert "\nhint: " in error

    def test_arguments_that_cannot_be_kept_end_without_a_traceback(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from stepladder.trainer.__main__ import main

        words = ["--model_name_or_path", "gone", "--data", "gone.jsonl", "--output_dir", str(tmp_path)]
        monkeypatch.setattr("sys.argv", ["trainer", *words, "--use_cpu", "true", "--length_window", "100"])
        message = "error: length_window is 100, expected a multiple of 64, or 0 for none\nhint: 128 is the nearest"
        with pytest.raises(SystemExit, match=message):
            main()
