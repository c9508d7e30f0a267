"""LoRA as people write it: `get_peft_model` on a base model, or the adapter of an earlier run on the same base.

`--frozen TEXT`: adapter weights with TEXT in their names are not trained. `--adapter NAME`: of the adapter.
"""

from dataclasses import dataclass, field
from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model
from tiny_train import Arguments, Sentences, build
from transformers import HfArgumentParser, Trainer, TrainingArguments


@dataclass
class LoraArguments(Arguments):
    frozen: str = field(default="")
    adapter: str = field(default="default")


def adapted(ours: LoraArguments) -> PeftModel:
    base = build("new")
    path = Path(ours.model_name_or_path)
    folder = path if ours.adapter == "default" else path / ours.adapter
    if (folder / "adapter_config.json").exists():
        model = PeftModel.from_pretrained(base, folder, adapter_name=ours.adapter, is_trainable=True)
    else:
        config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
        model = get_peft_model(base, config, adapter_name=ours.adapter)
    for name, parameter in model.named_parameters():
        if ours.frozen and ours.frozen in name:
            parameter.requires_grad_(False)
    return model


def main() -> None:
    ours, args = HfArgumentParser((LoraArguments, TrainingArguments)).parse_args_into_dataclasses()
    data = Sentences(ours.data_mixture, ours.samples)
    trainer = Trainer(model=adapted(ours), args=args, train_dataset=data)
    trainer.train(resume_from_checkpoint=args.resume_from_checkpoint)
    trainer.save_model(args.output_dir)


if __name__ == "__main__":
    main()
