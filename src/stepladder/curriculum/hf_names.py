"""Names and choices of `transformers.TrainingArguments`, 4.46 and 5.23 together, and which name was meant."""

# Long lists of words are easier to read and to compare as text.
# ruff: noqa: SIM905

from __future__ import annotations

import difflib

#: Arguments that are true or false.
SWITCHES = frozenset(
    """
    activation_checkpointing adafactor auto_find_batch_size average_tokens_across_devices batch_eval_metrics bf16
    bf16_full_eval dataloader_drop_last dataloader_in_order dataloader_persistent_workers dataloader_pin_memory
    ddp_broadcast_buffers ddp_find_unused_parameters ddp_static_graph disable_tqdm dispatch_batches do_eval
    do_predict do_train enable_jit_checkpoint eval_do_concat_batches eval_on_start eval_use_gather_object fp16
    fp16_full_eval full_determinism gradient_checkpointing greater_is_better group_by_length hub_always_push
    hub_private_repo ignore_data_skip include_inputs_for_metrics include_tokens_per_second jit_mode_eval
    load_best_model_at_end log_on_each_node logging_first_step logging_nan_inf_filter no_cuda overwrite_output_dir
    prediction_loss_only push_to_hub remove_unused_columns restore_callback_states_from_checkpoint save_on_each_node
    save_only_model save_safetensors skip_memory_metrics split_batches tf32 torch_compile tpu_metrics_debug
    use_cache use_cpu use_ipex use_legacy_prediction_loop use_liger_kernel use_mps_device
    """.split()
)

#: Every argument; a script has names of its own besides.
NAMES = SWITCHES | frozenset(
    """
    accelerator_config activation_checkpointing_kwargs adam_beta1 adam_beta2 adam_epsilon data_seed
    dataloader_multiprocessing_context dataloader_num_workers dataloader_prefetch_factor ddp_backend
    ddp_bucket_cap_mb ddp_timeout debug deepspeed eval_accumulation_steps eval_delay eval_steps eval_strategy
    evaluation_strategy fp16_backend fp16_opt_level fsdp fsdp_config fsdp_min_num_params
    fsdp_transformer_layer_cls_to_wrap gradient_accumulation_steps gradient_checkpointing_kwargs
    half_precision_backend hub_model_id hub_revision hub_strategy hub_token include_for_metrics
    include_num_input_tokens_seen label_names label_smoothing_factor learning_rate length_column_name
    liger_kernel_config local_rank log_level log_level_replica logging_dir logging_steps logging_strategy
    lr_scheduler_kwargs lr_scheduler_type max_grad_norm max_steps metric_for_best_model mp_parameters
    neftune_noise_alpha num_train_epochs optim optim_args optim_target_modules output_dir parallelism_config
    past_index per_device_eval_batch_size per_device_train_batch_size per_gpu_eval_batch_size
    per_gpu_train_batch_size project push_to_hub_model_id push_to_hub_organization push_to_hub_token ray_scope
    report_to resume_from_checkpoint run_name save_steps save_strategy save_total_limit seed torch_compile_backend
    torch_compile_mode torch_empty_cache_steps torchdynamo tpu_num_cores trackio_bucket_id trackio_space_id
    trackio_static_space_id train_sampling_strategy warmup_ratio warmup_steps weight_decay
    """.split()
)

_INTERVALS = ("no", "steps", "epoch")
_LEVELS = ("detail", "debug", "info", "warning", "error", "critical", "passive")

#: What an argument may say.
CHOICES = {
    "eval_strategy": _INTERVALS,
    "evaluation_strategy": _INTERVALS,
    "logging_strategy": _INTERVALS,
    "save_strategy": (*_INTERVALS, "best"),
    "hub_strategy": ("end", "every_save", "checkpoint", "all_checkpoints"),
    "log_level": _LEVELS,
    "log_level_replica": _LEVELS,
}

#: Values of `optim`; later versions may know more.
OPTIMIZERS = tuple(
    """
    adafactor adagrad adalomo adamw_8bit adamw_anyprecision adamw_apex_fused adamw_bnb_8bit adamw_hf adamw_torch
    adamw_torch_4bit adamw_torch_8bit adamw_torch_fused adamw_torch_npu_fused adamw_torch_xla ademamix ademamix_8bit
    apollo_adamw apollo_adamw_layerwise galore_adafactor galore_adafactor_layerwise galore_adamw galore_adamw_8bit
    galore_adamw_8bit_layerwise galore_adamw_layerwise grokadamw lion_32bit lion_8bit lomo paged_adamw_32bit
    paged_adamw_8bit paged_ademamix_32bit paged_ademamix_8bit paged_lion_32bit paged_lion_8bit rmsprop rmsprop_bnb
    rmsprop_bnb_32bit rmsprop_bnb_8bit schedule_free_adamw schedule_free_radam schedule_free_sgd sgd stable_adamw
    """.split()
)

#: How like a known name a name must be to count as a slip of the pen. `dataset_seed` and `data_seed` (0.86) are two
#: names, `optm` and `optim` (0.89) are one.
LIKENESS = 0.87

#: Names that look like a slip but are another library's own: TRL's preference trainers smooth labels as well.
_OTHERS = ("label_smoothing",)


def meant(name: str) -> str | None:
    """The argument that `name` is a misspelling or an abbreviation of; None for a name, or for one of the script's."""
    if name in NAMES or name in _OTHERS:
        return None
    plain = name.lower().replace("-", "_")
    if plain in NAMES:
        return plain
    # argparse completes a beginning that fits one name. A single word is left alone: it may well be the script's own.
    completed = [known for known in NAMES if "_" in plain and known.startswith(plain)]
    if len(completed) == 1:
        return completed[0]
    words = set(plain.split("_"))
    # `vision_learning_rate` adds a word to a known name; it does not misspell it.
    other = sorted(known for known in NAMES if not words > set(known.split("_")))
    close = difflib.get_close_matches(plain, other, n=1, cutoff=LIKENESS)
    return close[0] if close else None
