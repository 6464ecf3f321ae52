"""SMDM (nieshen/SMDM): masked and autoregressive models of *Scaling up Masked Diffusion Models on Text*.

The layout is lit-gpt's. The fused attention matrix holds, for each group of heads, the queries, then one key, then one
value. Rotary tables are rounded to bfloat16, as they were in training. A masked model has one embedding row more than
its head, for the mask. Source: lit_gpt/diffmodel.py of ML-GSAI/SMDM.
"""

from collections.abc import Sequence

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
    shape,
    vocabulary_size,
)
from remask.checkpoints.source import Source
from remask.model.sizes import Architecture
from remask.vocabulary import Vocabulary

LAYER = "transformer.h.{}."
EMBEDDING, HEAD = "transformer.wte.weight", "lm_head.weight"
ATTENTION = "attn.attn.weight"
PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
NAMES = {
    "norm_1": "input_layernorm",
    "norm_2": "post_attention_layernorm",
    "attn.proj": "self_attn.o_proj",
    "mlp.swiglu.w1": "mlp.gate_proj",
    "mlp.swiglu.w2": "mlp.up_proj",
    "mlp.swiglu.w3": "mlp.down_proj",
}


class SMDM(Format):
    """SMDM's layout."""

    name = "smdm"
    mark = "transformer.h.0.attn.attn.weight"

    def read(self, source: Source, overrides: Overrides) -> Parsed:
        layers = number_of_layers(source, LAYER + ATTENTION, "n_layer")
        rows, width = shape(source, EMBEDDING)
        if HEAD in source.tensors:
            head, _ = shape(source, HEAD)
        else:  # `differences` names it as missing; vocabularies are even, and the mask's row makes them odd
            head = rows - rows % 2
        fused, _ = shape(source, LAYER.format(0) + ATTENTION)
        ffn, _ = shape(source, LAYER.format(0) + "mlp.swiglu.w1.weight")
        heads = attention_heads(source, overrides.heads, "n_head", layers=layers, width=width, ffn=ffn)
        a = Architecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=(fused * heads // width - heads) // 2,
            head_width=width // heads,
            ffn=ffn,
            context=integer(source, overrides.context, "block_size", default=2048),
            rope_base=number(source, overrides.rope_theta, "rope_base", default=10000.0),
            rope_bf16=True,
            norm_eps=number(source, overrides.norm_eps, "norm_eps", default=1e-5),
            rows=rows,
            predicted=min(head, vocabulary_size(source, head)),  # some count the mask as well
        )
        masked = rows > head
        start, end = (1, 2) if head == 32000 else (None, None)  # Llama 2's ids; every evaluation begins with <s>
        vocabulary = Vocabulary(
            rows,
            mask=(head if overrides.mask_id is None else overrides.mask_id) if masked else None,
            start=start if overrides.start_id is None else overrides.start_id,
            end=end,
        )
        family = overrides.family or ("Masked" if masked else "Autoregressive")
        return Parsed(a, bound_family(source, family, vocabulary))

    def tokenizer(self, source: Source) -> str | None:
        return "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T"

    def names(self, a: Architecture) -> dict[str, str]:
        names = {
            "model.embed_tokens.weight": EMBEDDING,
            "model.norm.weight": "transformer.ln_f.weight",
            "lm_head.weight": HEAD,
        }
        for i in range(a.layers):
            ours, theirs = f"model.layers.{i}.", LAYER.format(i)
            names |= {f"{ours}{b}.weight": f"{theirs}{a}.weight" for a, b in NAMES.items()}
            names |= {f"{ours}{part}.weight": theirs + ATTENTION for part in PARTS}
        return names

    def padded(self, a: Architecture) -> set[str]:
        return {HEAD}

    def to_ours(self, theirs: Tensor, ours: str, a: Architecture) -> Tensor:
        if ours == HEAD:
            return theirs[: a.predicted]
        part = next((i for i, part in enumerate(PARTS) if part in ours), None)
        if part is None:
            return theirs
        queries = a.heads // a.kv_heads
        groups = theirs.view(a.kv_heads, queries + 2, a.head_width, -1)
        return (groups[:, :queries], groups[:, queries:-1], groups[:, -1:])[part].flatten(0, 2)

    def to_theirs(self, ours: Sequence[Tensor], theirs: str, a: Architecture) -> Tensor:
        if not theirs.endswith(ATTENTION):
            return super().to_theirs(ours, theirs, a)
        return torch.cat([x.unflatten(0, (a.kv_heads, -1, a.head_width)) for x in ours], 1).flatten(0, 2)
