"""LLaDA (GSAI-ML/LLaDA-8B-Base, -Instruct, 1.5, ...): the names of OLMo on the network of Llama.

`ff_out` means two things: in a block the matrix that leads out of the feed-forward, outside the blocks the head.
Source: modeling_llada.py of GSAI-ML/LLaDA-8B-Instruct. The embedding and the head may have more rows than `vocab_size`;
such padding belongs to no token and is not read.

When this layout is written, the head gets a row for every id that can be read. Where our head has none for the mask,
the row is a copy of the one before it (the rarest piece of a BPE), so that the mask is never strictly the most likely.
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
from remask.families import Family
from remask.model.sizes import Architecture
from remask.vocabulary import Vocabulary

LAYER = "model.transformer.blocks.{}."
EMBEDDING, HEAD = "model.transformer.wte.weight", "model.transformer.ff_out.weight"
NAMES = {
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
}
SPECIAL = {126464: {"mask": 126336, "end": 126081, "turn": 126348}}
"""Special ids of the published vocabulary, by its number of ids. Texts do not begin with a special token."""
UNSUPPORTED = {"alibi": True, "include_bias": True, "attention_layer_norm": True, "input_emb_norm": True,
               "scale_logits": True, "rope": False, "layer_norm_with_affine": False}  # fmt: skip
"""Settings of the published code under which it computes something that our network does not."""


class LLaDA(Format):
    """LLaDA's layout."""

    name = "llada"
    mark = "transformer.blocks.0.attn_out.weight"
    prefix = "model."
    writes = True

    def read(self, source: Source, overrides: Overrides) -> Parsed:
        for option, value in UNSUPPORTED.items():
            if source.config.get(option) is value:
                raise RemaskError(f"{source.name}: config.json says {option}: {value}, which remask's network has not")
        tensors = source.tensors
        layers = number_of_layers(source, LAYER + "attn_out.weight", "n_layers")
        embeddings, width = shape(source, EMBEDDING)
        ffn, _ = shape(source, LAYER.format(0) + "ff_proj.weight")
        (queries, _), (keys, _) = (shape(source, LAYER.format(0) + f"{x}_proj.weight") for x in "qk")
        heads = attention_heads(source, overrides.heads, "n_heads", layers=layers, width=width, ffn=ffn)
        size = vocabulary_size(source, embeddings)
        ids = SPECIAL.get(size, {})
        mask = optional_id(source, overrides.mask_id, "mask_token_id", default=ids.get("mask"))
        if mask is None:
            raise RemaskError(f"{source.name}: no config.json says which id is the mask. Give --mask-id")
        # a mask behind the vocabulary, in what would be padding, is read as well
        rows = max(size, min(embeddings, max(mask + 1, source.tokens or 0)))
        exported = source.config.get("remask")  # what our own export adds
        exported = exported if isinstance(exported, dict) else {}
        predicted = exported.get("predicted", size)
        if not (isinstance(predicted, int) and 1 <= predicted <= size):
            raise RemaskError(f"{source.name}: config.json says that {predicted!r} of its {size} ids are predicted")
        a = Architecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=keys * heads // queries,
            head_width=queries // heads,
            ffn=ffn,
            context=integer(source, overrides.context, "max_sequence_length", default=4096),
            rope_base=number(source, overrides.rope_theta, "rope_theta", default=500000.0),
            rope_bf16=bool(exported.get("rope_bf16", False)),
            norm_eps=number(source, overrides.norm_eps, "rms_norm_eps", default=1e-5),
            tied=tied_head(source, HEAD, "weight_tying"),
            qkv_bias=source.config.get("include_qkv_bias") is True or LAYER.format(0) + "q_proj.bias" in tensors,
            rows=rows,
            predicted=predicted,
        )
        vocabulary = Vocabulary(
            rows,
            mask=mask,
            start=optional_id(source, overrides.start_id, "bos_token_id"),
            end=optional_id(source, None, "eos_token_id", default=ids.get("end")),
            end_of_turn=ids.get("turn"),
        )
        return Parsed(a, bound_family(source, overrides.family or "Masked", vocabulary))

    def names(self, a: Architecture) -> dict[str, str]:
        names = {"model.embed_tokens.weight": EMBEDDING, "model.norm.weight": "model.transformer.ln_f.weight"}
        if not a.tied:
            names["lm_head.weight"] = HEAD
        for i in range(a.layers):
            ours, theirs = f"model.layers.{i}.", LAYER.format(i)
            names |= {f"{ours}{b}.weight": f"{theirs}{x}.weight" for x, b in NAMES.items()}
            if a.qkv_bias:
                names |= {f"{ours}self_attn.{x}_proj.bias": f"{theirs}{x}_proj.bias" for x in "qkv"}
        return names

    def optional(self, a: Architecture) -> set[str]:
        return {HEAD} if a.tied else set()

    def padded(self, a: Architecture) -> set[str]:
        return {EMBEDDING, HEAD}

    def to_ours(self, theirs: Tensor, ours: str, a: Architecture) -> Tensor:
        if ours == "model.embed_tokens.weight":
            return theirs[: a.rows]
        return theirs[: a.predicted] if ours == "lm_head.weight" else theirs

    def to_theirs(self, ours: Sequence[Tensor], theirs: str, a: Architecture) -> Tensor:
        (only,) = ours
        if theirs != HEAD or a.predicted == a.rows:
            return only
        return torch.cat([only, only[-1:].expand(a.rows - a.predicted, -1)])

    def config(self, a: Architecture, family: Family) -> dict[str, Any]:
        if family.order != "any":
            raise RemaskError(f"the llada layout is for masked models, and this one is {type(family).__name__}")
        if type(a) is not Architecture or a.time or a.qk_norm or a.shifted or a.rope_scaling or a.convolution:
            raise RemaskError(
                "the llada layout holds plain Llama networks only: no DiT, time, q/k norms, shift, scaling or "
                "convolutions; one trained with --architecture.convolution 0 goes out"
            )
        if a.head_width * a.heads != a.width:
            raise RemaskError("the llada layout needs heads that together are as wide as the stream")
        return {
            "architectures": ["LLaDAModelLM"],
            "model_type": "llada",
            "block_type": "llama",
            "block_group_size": 1,
            "d_model": a.width,
            "n_layers": a.layers,
            "n_heads": a.heads,
            "n_kv_heads": a.kv_heads,
            "mlp_hidden_size": a.ffn,
            "mlp_ratio": 4,
            "activation_type": "silu",
            "layer_norm_type": "rms",
            "layer_norm_with_affine": True,
            "rms_norm_eps": a.norm_eps,
            "rope": True,
            "rope_theta": a.rope_base,
            "rope_full_precision": True,
            "alibi": False,
            "attention_layer_norm": False,
            "input_emb_norm": False,
            "include_bias": False,
            "include_qkv_bias": a.qkv_bias,
            "scale_logits": False,
            "weight_tying": a.tied,
            "max_sequence_length": a.context,
            "vocab_size": a.rows,
            "embedding_size": a.rows,
            "mask_token_id": family.vocabulary.mask,
            "eos_token_id": family.vocabulary.end,
            "pad_token_id": family.vocabulary.end,
            "bos_token_id": family.vocabulary.start,
            "use_cache": False,
            "remask": {"predicted": a.predicted, "rope_bf16": a.rope_bf16},
        }
