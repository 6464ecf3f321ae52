"""Llama and Qwen (and Dream): the layout of Hugging Face, whose names are also ours.

Read as an autoregressive model; or with `--family Masked` as the starting point of a masked one: attention opened,
a row for the mask added (the mean of the others), and with `--shift` each position predicted where the one before
it is read, as the weights are used to (DiffuLLaMA, Gong et al. 2024). Written for what opens a `LlamaForCausalLM`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from remask.checkpoints.base import (
    Format,
    Overrides,
    Parsed,
    count,
    family_over,
    heads_of,
    integer,
    number,
    optional_id,
    shape,
)
from remask.checkpoints.source import Source
from remask.errors import RemaskError
from remask.families import Family, families
from remask.families.autoregressive import Autoregressive
from remask.model.sizes import Architecture
from remask.vocabulary import Vocabulary

LAYER = "model.layers.{}."
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm")  # fmt: skip
KINDS = ("llama", "mistral", "qwen2", "qwen3", "dream")
"""Values of `model_type` of which this is the whole network."""
DIFFUSION = ("dream",)
"""Values of `model_type` of masked models in this layout; they keep the shifted prediction."""


class Llama(Format):
    """The layout of Hugging Face's Llama."""

    name = "llama"
    mark = "model.layers.0.self_attn.q_proj.weight"
    writes = True
    overrides = frozenset({"shift"})

    def read(self, source: Source, overrides: Overrides) -> Parsed:
        config, tensors = source.config, source.tensors
        self.known(source)
        first = LAYER.format(0)
        layers = count(tensors, LAYER + "self_attn.o_proj.weight")
        rows, width = shape(source, EMBEDDING)
        ffn, _ = shape(source, first + "mlp.gate_proj.weight")
        (queries, _), (keys, _) = (shape(source, f"{first}self_attn.{x}_proj.weight") for x in "qk")
        heads = heads_of(source, overrides.heads, "num_attention_heads", layers=layers, width=width, ffn=ffn)
        diffusion = str(config.get("model_type", "")).lower() in DIFFUSION
        family = overrides.family or ("Masked" if diffusion else "Autoregressive")
        masked = family in families() and families()[family]().any_order
        mask = integer(source, overrides.mask_id, "mask_token_id", default=min(source.tokens or rows, rows))
        shifted = diffusion and masked if overrides.shift is None else overrides.shift
        told = overrides.mask_id is not None or isinstance(config.get("mask_token_id"), int)
        fresh = masked and not told  # a row for the mask, where padding began
        a = Architecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=keys * heads // queries,
            head_width=queries // heads,
            ffn=ffn,
            context=integer(source, overrides.context, "max_position_embeddings", default=2048),
            rope_base=number(source, overrides.rope_theta, "rope_theta", default=rotary_base(config)),
            rope_scaling=scaling(source),
            norm_eps=number(source, overrides.norm_eps, "rms_norm_eps", default=1e-5),
            tied=HEAD not in tensors or config.get("tie_word_embeddings") is True,
            qkv_bias=first + "self_attn.q_proj.bias" in tensors,
            qk_norm=first + "self_attn.q_norm.weight" in tensors,
            shifted=shifted,
            rows=mask + 1 if fresh else rows,
            predicted=mask if fresh else rows,
        )
        if shifted and not masked:
            raise RemaskError(
                f"{source.name}: --shift is for a masked model; reading from left to right shifts by itself"
            )
        ends = config.get("eos_token_id")
        several = ends[0] if isinstance(ends, list) and ends and isinstance(ends[0], int) else None
        vocabulary = Vocabulary(
            a.rows,
            mask=mask if masked else None,
            start=overrides.start_id if masked else optional_id(source, overrides.start_id, "bos_token_id"),
            end=optional_id(source, overrides.end_id, "eos_token_id", default=several),
            end_of_turn=ends[-1] if isinstance(ends, list) and len(ends) > 1 and isinstance(ends[-1], int) else None,
        )
        return Parsed(a, family_over(source, family, vocabulary))

    def known(self, source: Source) -> None:
        """RemaskError for a network that shares the names of this layout and computes something else."""
        config = source.config
        kind = config.get("model_type")
        if kind is not None and str(kind).lower() not in KINDS:
            raise RemaskError(f"{source.name}: model_type {kind!r} is not among those known here: {', '.join(KINDS)}")
        act, window = config.get("hidden_act", "silu"), config.get("sliding_window")
        if act != "silu":
            raise RemaskError(f"{source.name}: config.json says hidden_act: {act}, which remask's network has not")
        context = config.get("max_position_embeddings", 0)
        whole = isinstance(window, int) and isinstance(context, int)
        if whole and config.get("use_sliding_window", True) and window and window < context:
            raise RemaskError(
                f"{source.name}: config.json says sliding_window: {window}, which remask's network has not"
            )

    def names(self, a: Architecture) -> dict[str, str]:
        ours = [EMBEDDING, "model.norm.weight", *([] if a.tied else [HEAD])]
        for i in range(a.layers):
            ours += [f"{LAYER.format(i)}{part}.weight" for part in PARTS]
            ours += [f"{LAYER.format(i)}self_attn.{x}_proj.bias" for x in "qkv" if a.qkv_bias]
            ours += [f"{LAYER.format(i)}self_attn.{x}_norm.weight" for x in "qk" if a.qk_norm]
        return {name: name for name in ours}

    def optional(self, a: Architecture) -> set[str]:
        return {HEAD} if a.tied else set()

    def padded(self, a: Architecture) -> set[str]:
        return {EMBEDDING, HEAD} if a.predicted < a.rows else set()

    def take(self, theirs: Tensor, ours: str, a: Architecture) -> Tensor:
        if ours == HEAD:
            return theirs[: a.predicted]
        if ours != EMBEDDING or a.predicted == a.rows:
            return theirs
        known = theirs[: a.predicted]
        return torch.cat([known, known.float().mean(0, keepdim=True).to(theirs.dtype)])

    def give(self, ours: Sequence[Tensor], theirs: str, a: Architecture) -> Tensor:
        (only,) = ours
        return only[: a.predicted] if theirs == EMBEDDING else only

    def config(self, a: Architecture, family: Family) -> dict[str, Any]:
        if type(a) is not Architecture or a.time or a.shifted:
            raise RemaskError("the llama layout holds plain Llama networks only: no DiT, time or shift")
        if not isinstance(family, Autoregressive):
            raise RemaskError(
                f"the llama layout is for autoregressive models, and this one is {type(family).__name__}: "
                "engines would read it from left to right. For masked models there is --to llada"
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
            **({"rope_scaling": stretched_config(a.rope_scaling)} if a.rope_scaling else {}),
            "tie_word_embeddings": a.tied,
            "max_position_embeddings": a.context,
            "vocab_size": a.predicted,
            "bos_token_id": vocabulary.end if vocabulary.start is None else vocabulary.start,
            "eos_token_id": vocabulary.end,
            "remask": {"rows": a.rows, "rope_bf16": a.rope_bf16},
        }


def rotary_base(config: dict[str, Any]) -> float:
    """The base of the rotations where newer configurations keep it."""
    found = config.get("rope_parameters")
    value = found.get("rope_theta") if isinstance(found, dict) else None
    return float(value) if isinstance(value, int | float) else 10000.0


def scaling(source: Source) -> tuple[float, float, float, float] | None:
    """Llama 3's stretching of the rotations, None without any. RemaskError for one of another kind."""
    for key in ("rope_scaling", "rope_parameters"):
        found = source.config.get(key)
        kind = found.get("rope_type", found.get("type", "default")) if isinstance(found, dict) else "default"
        if kind == "default":
            continue
        if kind != "llama3" or not isinstance(found, dict):
            raise RemaskError(f"{source.name}: config.json asks for {key} of type {kind!r}; remask knows llama3")
        keys = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        if missing := [k for k in keys if not isinstance(found.get(k), int | float)]:
            raise RemaskError(f"{source.name}: config.json's {key} lacks {missing[0]}")
        factor, low, high, context = (float(found[k]) for k in keys)
        return factor, low, high, context
    return None


def stretched_config(scale: tuple[float, float, float, float]) -> dict[str, Any]:
    """`rope_scaling` of a Llama 3 config."""
    factor, low, high, context = scale
    return {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": int(context)}  # fmt: skip
