"""The built-in trainer: what is trained, in which order, on how many tiles, and what is refused."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pointing_data import QUESTION, run_python, write_pointing_data
from stepladder.data.samples import DataError, read_samples
from stepladder.trainer import tiny
from stepladder.trainer.tiles import TilesError, describe_grids, grids, limit_tiles
from stepladder_worker.order import sample_at
from trainers import TRL_WARNING, trainer_of

#: Runs are short and leave out what costs time on one core.
QUICK = (
    *("--gradient_checkpointing", "false", "--disable_tqdm", "true", "--use_cpu", "true"),
    *("--logging_steps", 1, "--learning_rate", 1e-3, "--lr_scheduler_type", "constant"),
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pointing_data(tmp_path_factory.mktemp("pairs"))


def processor_of(model: Path) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(model)


def logged(stderr_and_stdout: str, key: str) -> list[float]:
    lines = [line for line in stderr_and_stdout.splitlines() if line.startswith("{'loss'")]
    return [float(line.split(f"'{key}': '")[1].split("'")[0]) for line in lines]


class TestRuns:
    """The real script, in its own process."""

    def test_images(self, vision_model: Path, pairs: Path, tmp_path: Path) -> None:
        done = run_python(
            *("-m", "stepladder.trainer", "--model_name_or_path", vision_model, "--data", pairs),
            *("--output_dir", tmp_path / "out", "--max_steps", 3, "--max_tiles", 6, *QUICK),
            *("--per_device_train_batch_size", 1, "--gradient_accumulation_steps", 4, "--save_strategy", "no"),
        )
        assert done.returncode == 0, done.stderr
        said = [line.split(":")[0] for line in done.stderr.splitlines() if ": " in line]
        for word in ("model", "trains", "data", "tiles", "trained", "saved"):
            assert said.count(word) == 1, (word, done.stderr)
        assert "first sample's: 2x3 of 160x90" in done.stderr
        losses = logged(done.stdout, "loss")
        assert len(losses) == 3
        assert losses[2] < losses[0]
        assert processor_of(tmp_path / "out").image_processor.size["longest_edge"] == 4 * tiny.TILE
        assert (tmp_path / "out" / "model.safetensors").read_bytes() != (
            vision_model / "model.safetensors"
        ).read_bytes()

    def test_text(self, text_model: Path, tmp_path: Path) -> None:
        text = tmp_path / "text.txt"
        text.write_text(Path(__file__).read_text("utf-8"), "utf-8")
        done = run_python(
            *("-m", "stepladder.trainer", "--model_name_or_path", text_model, "--data", text),
            *("--output_dir", tmp_path / "out", "--max_steps", 3, "--save_strategy", "no", *QUICK),
        )
        assert done.returncode == 0, done.stderr
        losses = logged(done.stdout, "loss")
        assert len(losses) == 3
        assert losses[2] < losses[0]
        assert (tmp_path / "out" / "model.safetensors").is_file()

    def test_two_processes_resume_in_the_middle_of_the_second_epoch(
        self, vision_model: Path, pairs: Path, tmp_path: Path
    ) -> None:
        """12 samples, 4 a step: step 4 is the first of epoch 1, step 5 its second. Bytes equal the unbroken run's."""

        def train(output: Path, *more: object) -> None:
            done = run_python(
                *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2, "-m", "stepladder.trainer"),
                *("--model_name_or_path", vision_model, "--data", pairs, "--output_dir", output, "--max_tiles", 4),
                *("--per_device_train_batch_size", 1, "--gradient_accumulation_steps", 2, "--max_steps", 5),
                *(*QUICK, *more),
            )
            assert done.returncode == 0, done.stderr

        train(tmp_path / "straight", "--save_strategy", "steps", "--save_steps", 4)
        broken_at = tmp_path / "straight" / "checkpoint-4"
        train(tmp_path / "resumed", "--save_strategy", "no", "--resume_from_checkpoint", broken_at)
        straight, resumed = ((tmp_path / run / "model.safetensors").read_bytes() for run in ("straight", "resumed"))
        assert straight == resumed
        assert straight != (broken_at / "model.safetensors").read_bytes()

    def test_a_sample_that_is_too_long_ends_the_run_and_is_named(
        self, vision_model: Path, pairs: Path, tmp_path: Path
    ) -> None:
        done = run_python(
            *("-m", "stepladder.trainer", "--model_name_or_path", vision_model, "--data", pairs),
            *("--output_dir", tmp_path / "out", "--max_steps", 1, "--max_length", 60, *QUICK),
        )
        first = sample_at(42, "pairs", 12, 0)
        assert done.returncode != 0
        assert f"sample s{first} has" in done.stderr
        assert "more than max_length allows (60)\nhint: " in done.stderr


@pytest.mark.filterwarnings(TRL_WARNING)
class TestLabels:
    """Only the answer and the end of its turn are trained."""

    def test_of_images(self, vision_model: Path, pairs: Path, tmp_path: Path) -> None:
        trainer = trainer_of(vision_model, pairs, tmp_path, max_tiles=4, per_device_train_batch_size=4)
        tokenizer = trainer.processing_class.tokenizer
        samples = read_samples(pairs)
        positions = itertools.count()
        for batch in trainer.get_train_dataloader():
            for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
                sample = samples[sample_at(trainer.args.seed, "pairs", 12, next(positions))]
                answer = sample.columns["completion"][0]["content"]
                assert tokenizer.decode(labels[labels != -100]) == f" {answer}<end_of_utterance>"
                untrained = tokenizer.decode(ids[labels == -100])
                assert QUESTION in untrained
                assert untrained.count("<image>") == 2 * 4 * (4 + 1)  # images x tokens a tile x (tiles + thumbnail)
        assert next(positions) == 12

    def test_of_text(self, text_model: Path, tmp_path: Path) -> None:
        data = tmp_path / "sums.jsonl"
        rows = [{"id": i, "prompt": f"{i} and one is", "completion": f" {i + 1}"} for i in range(8)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        trainer = trainer_of(text_model, data, tmp_path, per_device_train_batch_size=8)
        (batch,) = trainer.get_train_dataloader()
        for position, labels in enumerate(batch["labels"]):
            number = sample_at(trainer.args.seed, "sums", 8, position)
            assert trainer.processing_class.decode(labels[labels != -100]) == f" {number + 1}<end_of_utterance>"

    def test_text_that_is_too_long_is_refused_before_training(self, text_model: Path, tmp_path: Path) -> None:
        data = tmp_path / "long.jsonl"
        data.write_text('{"text": "short"}\n{"id": "novel", "text": "' + "word and " * 50 + '"}\n', "utf-8")
        with pytest.raises(DataError, match=r"sample novel has \d+ tokens(.|\n)*hint: "):
            trainer_of(text_model, data, tmp_path, max_length=50)

    def test_nothing_to_train_on_is_refused(self) -> None:
        from stepladder.trainer.lengths import check_sample

        check_sample("s1", tokens=10, trained=1, limit=10)
        with pytest.raises(DataError, match=r"sample s1 has no token to train on(.|\n)*hint: "):
            check_sample("s1", tokens=10, trained=0, limit=None)


class TestOrder:
    def test_sharded_and_skipped_loaders_follow_it(self) -> None:
        """accelerate's own sharding and skipping, as the Trainer uses them on two processes."""
        from accelerate import PartialState, skip_first_batches
        from accelerate.data_loader import prepare_data_loader
        from torch.utils.data import DataLoader

        from stepladder.trainer.sampler import OrderedSampler, named_order

        PartialState(cpu=True)
        order = OrderedSampler(20, named_order(5, "pairs", 20))
        loader = DataLoader(list(range(20)), batch_size=2, sampler=order)  # type: ignore[arg-type]
        ranks = [prepare_data_loader(loader, num_processes=2, process_index=rank) for rank in (0, 1)]
        order.set_epoch(3)
        batches = [[batch.tolist() for batch in skip_first_batches(rank, 2)] for rank in ranks]
        seen = list(itertools.chain.from_iterable(first + second for first, second in zip(*batches, strict=True)))
        assert seen == [sample_at(5, "pairs", 20, 3 * 20 + 8 + i) for i in range(12)]

    @pytest.mark.parametrize("choice", [{"packing": True}, {"train_sampling_strategy": "group_by_length"}])
    def test_another_order_is_refused(self, choice: dict[str, Any], tmp_path: Path) -> None:
        from stepladder.trainer.arguments import ArgumentsError, TrainerConfig

        with pytest.raises(ArgumentsError, match=r"(.|\n)*hint: "):
            TrainerConfig(output_dir=str(tmp_path), use_cpu=True, **choice)


class TestTiles:
    SQUARE, FOUR_THREE, SIXTEEN_NINE = (400, 400), (640, 480), (640, 360)

    @pytest.mark.parametrize(
        ("max_tiles", "square", "four_three", "sixteen_nine"),
        [
            (1, (1, 1), (1, 1), (1, 1)),
            (3, (1, 1), (1, 1), (1, 1)),
            (4, (2, 2), (2, 2), (2, 2)),
            (5, (2, 2), (2, 2), (2, 2)),
            (6, (2, 2), (2, 2), (2, 3)),
            (9, (3, 3), (3, 3), (2, 3)),
            (12, (3, 3), (3, 4), (3, 4)),
            (16, (4, 4), (3, 4), (3, 5)),
        ],
    )
    def test_grids_by_shape(
        self,
        vision_model: Path,
        max_tiles: int,
        square: tuple[int, int],
        four_three: tuple[int, int],
        sixteen_nine: tuple[int, int],
    ) -> None:
        """The grids foretold are those transformers cuts, each image by its own shape in one batch."""
        processor = processor_of(vision_model)
        limit_tiles(processor, "idefics3", max_tiles)
        shapes = [self.SQUARE, self.FOUR_THREE, self.SIXTEEN_NINE, self.SIXTEEN_NINE[::-1]]
        expected = [square, four_three, sixteen_nine, sixteen_nine[::-1]]
        assert grids(processor.image_processor, shapes) == expected

        images = [Image.new("RGB", shape, (200, 30, 90)) for shape in shapes]
        cut = processor.image_processor([images], return_row_col_info=True)
        found = [(max(1, rows), max(1, columns)) for rows, columns in zip(cut["rows"][0], cut["cols"][0], strict=True)]
        assert found == expected

    def test_smolvlm(self) -> None:
        from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

        class Processor:
            image_processor = SmolVLMImageProcessorPil(
                size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}
            )

        limit_tiles(Processor, "smolvlm", 6)
        cut = Processor.image_processor([[Image.new("RGB", self.SIXTEEN_NINE)]], return_row_col_info=True)
        assert (cut["rows"], cut["cols"]) == ([[2]], [[3]])

    def test_described(self, vision_model: Path) -> None:
        processor = processor_of(vision_model)
        assert describe_grids(processor.image_processor, [(640, 360), (640, 360)]) == "3x4 of 640x360"
        limit_tiles(processor, "idefics3", 4)
        assert describe_grids(processor.image_processor, [(640, 360), (10, 10)]) == "2x2 of 640x360, 2x2 of 10x10"

    def test_a_later_stage_inherits_the_record_but_not_the_limit(self, vision_model: Path, tmp_path: Path) -> None:
        processor = processor_of(vision_model)
        limit_tiles(processor, "idefics3", 4)
        processor.save_pretrained(tmp_path)
        later = processor_of(tmp_path)
        assert later.image_processor.max_tiles == 4
        assert grids(later.image_processor, [(640, 360)]) == [(3, 4)]
        limit_tiles(later, "idefics3", None)
        assert not hasattr(later.image_processor, "max_tiles")

    def test_reaches_spawned_loader_workers(self, vision_model: Path) -> None:
        processor = processor_of(vision_model)
        limit_tiles(processor, "idefics3", 4)
        assert grids(pickle.loads(pickle.dumps(processor.image_processor)), [(640, 360)]) == [(2, 2)]

    @pytest.mark.parametrize(
        ("model_type", "max_tiles", "message"),
        [
            ("qwen2_vl", 4, r"'qwen2_vl'.*known: idefics3, smolvlm\nhint: "),
            ("idefics3", 0, r"at least 1, found 0\nhint: "),
        ],
    )
    def test_what_cannot_be_kept_is_refused(
        self, vision_model: Path, model_type: str, max_tiles: int, message: str
    ) -> None:
        with pytest.raises(TilesError, match=message):
            limit_tiles(processor_of(vision_model), model_type, max_tiles)


class TestSamples:
    def write(self, folder: Path, *records: Any, name: str = "data.jsonl") -> Path:
        path = folder / name
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), "utf-8")
        return path

    def test_llava(self, pairs: Path) -> None:
        sample = read_samples(pairs)[1]
        assert sample.id == "s1"
        assert sample.images == tuple(str(pairs.parent / name) for name in ("1_A.png", "1_B.png"))
        assert sample.columns == {
            "prompt": [{"role": "user", "content": QUESTION}],
            "completion": [{"role": "assistant", "content": "NOT_VISIBLE"}],
        }
        assert sample.meta["neg_type"] == "tierA"

    def test_placeholders_at_the_start_are_taken_off(self, pairs: Path) -> None:
        def ask(text: str) -> Any:
            turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "yes"}]
            path = self.write(pairs.parent, {"image": ["1_A.png", "1_B.png"], "conversations": turns}, name="one.jsonl")
            return read_samples(path)[0].columns["prompt"][0]["content"]

        assert ask("<image>\n<image>\nWhere?") == "Where?"
        with pytest.raises(DataError, match="one for each of the 2 images at the start, found 2 elsewhere"):
            ask("<image> Where in <image>?")

    def test_conversations_with_several_answers_stay_whole_on_demand(self, tmp_path: Path) -> None:
        turns = [{"role": role, "content": "words"} for role in ("user", "assistant", "user", "assistant")]
        path = self.write(tmp_path, {"messages": turns})
        assert read_samples(path, keep_messages=True)[0].columns == {"messages": turns}
        with pytest.raises(DataError, match="assistant_only_loss"):
            read_samples(path)

    def test_json_and_text(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, json.dumps([{"prompt": "a", "completion": "b"}]), name="data.json")
        assert read_samples(path)[0].columns == {"prompt": "a", "completion": "b"}
        path = self.write(tmp_path, "one\nparagraph\n\n\n", "another", name="data.txt")
        samples = [(sample.id, sample.columns) for sample in read_samples(path)]
        assert samples == [("data.txt:0", {"text": "one\nparagraph"}), ("data.txt:1", {"text": "another"})]

    def test_all_problems_are_told_at_once_with_their_lines(self, tmp_path: Path) -> None:
        question = {"from": "human", "value": "?"}
        path = self.write(
            tmp_path,
            {"text": "fine"},
            "{oops",
            {"conversations": [question]},
            {"image": "gone.png", "conversations": [question, {"from": "gpt", "value": "!"}]},
            {"prompt": "a", "completion": " "},
            {"question": "a"},
            {"conversations": [{"from": "robot", "value": "?"}]},
        )
        with pytest.raises(DataError) as caught:
            read_samples(path)
        lines = str(caught.value).splitlines()
        assert [line.split(":")[1] for line in lines[:5]] == ["2", "3", "4", "5", "6"]
        assert "gone.png" in lines[2]
        assert lines[5] == "... and 1 more"
        assert lines[6].startswith("hint: ")

    @pytest.mark.parametrize(("name", "content"), [("data.jsonl", ""), ("data.json", "{}"), ("data.csv", "a,b")])
    def test_files_without_samples_are_refused(self, tmp_path: Path, name: str, content: str) -> None:
        with pytest.raises(DataError, match=r"(.|\n)*hint: "):
            read_samples(self.write(tmp_path, content, name=name))

    def test_images_are_decoded_only_at_access(self, tmp_path: Path) -> None:
        from stepladder.trainer.dataset import to_dataset

        path = write_pointing_data(tmp_path, count=3)
        dataset = to_dataset(read_samples(path), path, use_depth=False)
        (tmp_path / "2_B.png").write_bytes(b"no picture")
        assert [image.size for image in dataset[0]["images"]] == [(160, 90), (160, 90)]
        with pytest.raises(
            DataError, match=r"sample s2: image .*2_B.png cannot be decoded: cannot identify(.|\n)*hint: "
        ):
            dataset[2]


class TestTinyModels:
    def test_the_same_arguments_give_the_same_bytes(self, vision_model: Path, tmp_path: Path) -> None:
        assert tiny.build(tmp_path / "again")
        assert tiny.build(tmp_path / "other", seed=1)
        weights = [(folder / "model.safetensors").read_bytes() for folder in (vision_model, tmp_path / "again")]
        assert weights[0] == weights[1] != (tmp_path / "other" / "model.safetensors").read_bytes()
        tokenizers = [(folder / "tokenizer.json").read_bytes() for folder in (vision_model, tmp_path / "again")]
        assert tokenizers[0] == tokenizers[1]
        assert not list(tmp_path.glob(".*"))

    def test_what_is_there_is_kept_and_never_overwritten(self, vision_model: Path, tmp_path: Path) -> None:
        before = (vision_model / "config.json").stat().st_mtime_ns
        done = run_python("-X", "importtime", "-m", "stepladder.trainer.tiny", vision_model)
        assert (done.returncode, "| torch\n" in done.stderr) == (0, False)
        assert "already there" in done.stderr
        assert (vision_model / "config.json").stat().st_mtime_ns == before
        with pytest.raises(tiny.TinyModelError, match=r"exists and is not this model(.|\n)*hint: "):
            tiny.build(vision_model, seed=1)
        with pytest.raises(tiny.TinyModelError, match=r"cannot be read(.|\n)*hint: "):
            tiny.build(tmp_path / "new", texts=[tmp_path / "gone.txt"])
