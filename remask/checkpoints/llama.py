"""Llama, Mistral, Qwen 2 and 3, and Dream: the layout of Hugging Face, whose names are also ours.

It is read as an autoregressive model, or with `--family Masked` as the beginning of a masked one: attention in both
directions, a row for the mask (the mean of the others), and with `--shift` predictions for position i made at position
i-1, which the weights are used to (DiffuLLaMA, Gong et al. 2024). It is written for all that opens a
`LlamaForCausalLM`. Rows of the embedding behind `vocab_size` are padding and are not read.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from remask.checkpoints.format import Format, Parsed
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.parsing import (
    attention_heads,
    bound_family,
    integer,
    number,
    number_of_layers,
    optional_id,
    shape,
    tied_head,
    vocabulary_size,
)
from remask.checkpoints.source import Source
from remask.errors import RemaskError
from remask.families import Family, families
from remask.model.sizes import Architecture
from remask.vocabulary import Vocabulary

LAYER = "model.layers.{}."
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")  # fmt: skip
Q_BIAS, Q_NORM = "self_attn.q_proj.bias", "self_attn.q_norm.weight"
KINDS = ("llama", "mistral", "qwen2", "qwen3", "dream")
"""Values of `model_type` whose network is ours."""
DIFFUSION = ("dream",)
"""Values of `model_type` of masked models in this layout, which predict position i at position i-1."""


class Llama(Format):
    """The layout of Hugging Face's Llama."""

    name = "llama"
    mark = "layers.0.self_attn.q_proj.weight"
    prefix = "model."
    unprefixed = frozenset({HEAD})
    writes = True
    overrides = frozenset({"shift"})

    def read(self, source: Source, overrides: Overrides) -> Parsed:
        config, tensors = source.config, source.tensors
        refuse_other_networks(source)
        first = LAYER.format(0)
        layers = number_of_layers(source, LAYER + "self_attn.o_proj.weight", "num_hidden_layers")
        embeddings, width = shape(source, EMBEDDING)
        ffn, _ = shape(source, first + "mlp.gate_proj.weight")
        (queries, _), (keys, _) = (shape(source, f"{first}self_attn.{x}_proj.weight") for x in "qk")
        heads = attention_heads(source, overrides.heads, "num_attention_heads", layers=layers, width=width, ffn=ffn)
        kind = str(config.get("model_type", "")).lower()
        diffusion = kind in DIFFUSION
        family = overrides.family or ("Masked" if diffusion else "Autoregressive")
        masked = family in families() and families()[family].order == "any"
        shifted = diffusion and masked if overrides.shift is None else overrides.shift
        if shifted and not masked:
            raise RemaskError(
                f"{source.name}: --shift is for a masked model; reading from left to right shifts by itself"
            )
        size = vocabulary_size(source, embeddings)
        trained = optional_id(source, overrides.mask_id, "mask_token_id") if masked else None
        if masked and trained is None:  # a new row for the mask, behind the ids of the tokenizer
            predicted = min(source.tokens or size, size)
            mask, rows = predicted, predicted + 1
        else:
            mask, rows = trained, max(size, min(embeddings, max(source.tokens or 0, (trained or 0) + 1)))
            predicted = rows
        a = Architecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=keys * heads // queries,
            head_width=queries // heads,
            ffn=ffn,
            context=integer(source, overrides.context, "max_position_embeddings", default=2048),
            rope_base=number(source, overrides.rope_theta, "rope_theta", default=rotary_base(config)),
            rope_scaling=rotary_scaling(source),
            norm_eps=number(source, overrides.norm_eps, "rms_norm_eps", default=1e-5),
            tied=tied_head(source, HEAD, "tie_word_embeddings"),
            qkv_bias=kind == "qwen2" or config.get("attention_bias") is True or first + Q_BIAS in tensors,
            qk_norm=kind == "qwen3" or first + Q_NORM in tensors,
            shifted=shifted,
            rows=rows,
            predicted=predicted,
        )
        ends = config.get("eos_token_id")
        ends = [i for i in ends if isinstance(i, int)] if isinstance(ends, list) else []
        vocabulary = Vocabulary(
            a.rows,
            mask=mask,
            start=overrides.start_id if masked else optional_id(source, overrides.start_id, "bos_token_id"),
            end=optional_id(source, None, "eos_token_id", default=ends[0] if ends else None),
            end_of_turn=ends[-1] if len(ends) > 1 else None,
        )
        return Parsed(a, bound_family(source, family, vocabulary))

    def names(self, a: Architecture) -> dict[str, str]:
        names = [EMBEDDING, "model.norm.weight", *([] if a.tied else [HEAD])]
        for i in range(a.layers):
            names += [f"{LAYER.format(i)}{part}.weight" for part in PARTS]
            names += [f"{LAYER.format(i)}self_attn.{x}_proj.bias" for x in "qkv" if a.qkv_bias]
            names += [f"{LAYER.format(i)}self_attn.{x}_norm.weight" for x in "qk" if a.qk_norm]
        return {name: name for name in names}

    def optional(self, a: Architecture) -> set[str]:
        return {HEAD} if a.tied else set()

    def padded(self, a: Architecture) -> set[str]:
        return {EMBEDDING, HEAD}

    def to_ours(self, theirs: Tensor, ours: str, a: Architecture) -> Tensor:
        if ours == HEAD:
            return theirs[: a.predicted]
        if ours != EMBEDDING:
            return theirs
        if a.predicted == a.rows:
            return theirs[: a.rows]
        known = theirs[: a.predicted]  # and a new row for the mask, their mean
        return torch.cat([known, known.float().mean(0, keepdim=True).to(theirs.dtype)])

    def to_theirs(self, ours: Sequence[Tensor], theirs: str, a: Architecture) -> Tensor:
        (only,) = ours
        return only[: a.predicted] if theirs == EMBEDDING else only

    def config(self, a: Architecture, family: Family) -> dict[str, Any]:
        if family.order != "left":
            raise RemaskError(
                f"the llama layout is for autoregressive models, and this one is {type(family).__name__}: "
                "engines would read it from left to right. For masked models there is --to llada"
            )
        if type(a) is not Architecture or a.time or a.shifted or a.convolution:
            raise RemaskError(
                "the llama layout holds plain Llama networks only: no DiT, time, shift or convolutions; one trained "
                "with --architecture.convolution 0 goes out"
            )
        if a.qk_norm or a.qkv_bias:
            raise RemaskError("the llama layout has no biases on, or norms of, queries and keys; this model has")
        vocabulary = family.vocabulary
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": a.width,
            "num_hidden_layers": a.layers,
            "num_attention_heads": a.heads,
            "num_key_value_heads": a.kv_heads,
            "head_dim": a.head_width,
            "intermediate_size": a.ffn,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "rms_norm_eps": a.norm_eps,
            "rope_theta": a.rope_base,
            **({"rope_scaling": scaling_config(a.rope_scaling)} if a.rope_scaling else {}),
            "tie_word_embeddings": a.tied,
            "max_position_embeddings": a.context,
            "vocab_size": a.predicted,
            "bos_token_id": vocabulary.end if vocabulary.start is None else vocabulary.start,
            "eos_token_id": vocabulary.end,
            "remask": {"rows": a.rows, "rope_bf16": a.rope_bf16},
        }


def refuse_other_networks(source: Source) -> None:
    """RemaskError for a network that shares the names of this layout and computes something else."""
    config = source.config
    kind = config.get("model_type")
    if kind is not None and str(kind).lower() not in KINDS:
        raise RemaskError(f"{source.name}: model_type {kind!r} is not among those known here: {', '.join(KINDS)}")
    act, window = config.get("hidden_act", "silu"), config.get("sliding_window")
    if act != "silu":
        raise RemaskError(f"{source.name}: config.json says hidden_act: {act}, which remask's network has not")
    context = config.get("max_position_embeddings", 0)
    given = isinstance(window, int) and isinstance(context, int)
    if given and config.get("use_sliding_window", True) and window and window < context:
        raise RemaskError(f"{source.name}: config.json says sliding_window: {window}, which remask's network has not")


def rotary_base(config: dict[str, Any]) -> float:
    """The base of the rotary frequencies where newer configurations keep it."""
    settings = config.get("rope_parameters")
    value = settings.get("rope_theta") if isinstance(settings, dict) else None
    return float(value) if isinstance(value, int | float) else 10000.0


def rotary_scaling(source: Source) -> tuple[float, float, float, float] | None:
    """Llama 3's scaling of the rotary frequencies, None without any. RemaskError for a scaling of another kind."""
    for key in ("rope_scaling", "rope_parameters"):
        settings = source.config.get(key)
        kind = settings.get("rope_type", settings.get("type", "default")) if isinstance(settings, dict) else "default"
        if kind == "default":
            continue
        if kind != "llama3" or not isinstance(settings, dict):
            raise RemaskError(f"{source.name}: config.json asks for {key} of type {kind!r}; remask knows llama3")
        keys = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        if missing := [k for k in keys if not isinstance(settings.get(k), int | float)]:
            raise RemaskError(f"{source.name}: config.json's {key} lacks {missing[0]}")
        factor, low, high, context = (float(settings[k]) for k in keys)
        return factor, low, high, context
    return None


def scaling_config(scale: tuple[float, float, float, float]) -> dict[str, Any]:
    """`rope_scaling` of a Llama 3 config."""
    factor, low, high, context = scale
    return {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": int(context)}  # fmt: skip
