"""The adaLN DiT of MDLM, Duo, Eso-LM and scaling-dllms, as Lightning checkpoints or Hub folders hold it.

Published names are the network's own behind `backbone.`. The same tensors serve masked and uniform-state models: which
family a checkpoint is, and whether it is conditioned on the noise level, its configuration says, or `--family` and
`--time`. Source: models/dit.py of s-sahoo/scaling-dllms and s-sahoo/duo.
"""

from dataclasses import replace
from typing import Any

from remask.checkpoints.format import Format, Parsed
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.parsing import bound_family, integer, number, number_of_layers, optional_id, shape
from remask.checkpoints.source import Source
from remask.errors import RemaskError
from remask.model.dit import DiTArchitecture
from remask.model.sizes import SIZES, Architecture
from remask.vocabulary import Vocabulary

EMBEDDING, HEAD = "backbone.vocab_embed.embedding", "backbone.output_layer.linear.weight"
LEVEL = "backbone.sigma_map.mlp.0.weight"
"""A weight of the embedding of the noise level, which networks without adaLN lack."""
FAMILIES = {"mdlm": "Masked", "ar": "Autoregressive", "duo": "Uniform", "duo_base": "Uniform",
            "distillation": "Uniform", "esolm": "Interpolating", "eso-lm": "Interpolating",
            "eso_lm": "Interpolating"}  # fmt: skip
"""Our families by the name of the algorithm in configurations."""
VARIANTS = {"causal": "B", "mixed2": "A"}
"""Variants of Eso-LM by how its diffusion rows attend (`diffusion_attn_mode`)."""
SETTINGS = ("n_blocks", "n_heads", "length", "model_length", "time_conditioning", "alpha_0", "diffusion_attn_mode")
"""Settings that are read from the configuration, on any of its levels."""
SPECIAL = {
    50257: {"start": 50256, "end": 50256},
    50258: {"mask": 50257, "start": 50256, "end": 50256},
    30522: {"mask": 103, "start": 101, "end": 102},
    32001: {"mask": 32000, "start": 1, "end": 2},
    131072: {"mask": 3, "start": 1, "end": 2},
}
"""Special ids of the published vocabularies (GPT-2, BERT, Llama 2, NVIDIA's) by number of ids."""
MASK_AS_NOISE = (32001, 131072)
"""Vocabularies of scaling-dllms, whose uniform models keep the mask as a kind of noise and never predict it."""
GPT2 = "openai-community/gpt2"
TOKENIZERS = {50257: GPT2, 50258: GPT2, 30522: "google-bert/bert-base-uncased", 32001: "TinyLlama/TinyLlama_v1.1"}
HEADS = {(8, 256): 8, (6, 384): 6, (12, 768): 12, (24, 1024): 16, (16, 640): 8}
"""Attention heads of the published networks by layers and width: tiny, base, small, medium, 75M, and SMDM's sizes."""
HEADS |= {(a.layers, a.width): a.heads for name, a in SIZES.items() if name[0].isdigit() and a.ffn == 4 * a.width}


class DiTFormat(Format):
    """The DiT's layout. `rotary_emb.inv_freq`, a function of the shape, is not read."""

    name = "dit"
    mark = "blocks.0.attn_qkv.weight"
    prefix = "backbone."
    overrides = frozenset({"time"})

    def read(self, source: Source, overrides: Overrides) -> Parsed:
        source = replace(source, config=flat(source.config))
        layers = number_of_layers(source, "backbone.blocks.{}.attn_qkv.weight", "n_blocks")
        rows, width = shape(source, EMBEDDING)
        ffn, _ = shape(source, "backbone.blocks.0.mlp.0.weight")
        # a head that is not there is named by `differences`; all published ones have as many rows as the embedding
        predicted = shape(source, HEAD)[0] if HEAD in source.tensors else rows
        adaln = LEVEL in source.tensors
        family = self.family(source, overrides, adaln)
        config = source.config
        time = overrides.time if overrides.time is not None else config.get("time_conditioning", family == "Uniform")
        heads = self.heads(source, overrides.heads, layers, width)
        ids = SPECIAL.get(predicted, {})
        mask = overrides.mask_id if overrides.mask_id is not None else ids.get("mask", predicted - 1)
        a = DiTArchitecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=heads,
            head_width=width // heads,
            ffn=ffn,
            context=integer(source, overrides.context, "model_length", "length", default=1024),
            rope_base=number(source, overrides.rope_theta, default=10000.0),
            norm_eps=number(source, overrides.norm_eps, default=1e-5),
            time=bool(time) and adaln,
            adaln=adaln,
            condition=shape(source, LEVEL)[0] if adaln else 128,
            silent=silent_id(family, predicted, mask, overrides.mask_id),
            rows=rows,
            predicted=predicted,
        )
        vocabulary = Vocabulary(
            rows,
            mask=mask if family in ("Masked", "Interpolating") else None,
            start=overrides.start_id if overrides.start_id is not None else ids.get("start"),
            end=ids.get("end"),
        )
        options: dict[str, Any] = {}
        if family == "Interpolating":
            mode = config.get("diffusion_attn_mode", "causal")
            if mode not in VARIANTS:
                raise RemaskError(f"{source.name}: diffusion_attn_mode {mode!r} is of neither variant of Eso-LM")
            options = {"alpha_0": number(source, None, "alpha_0", default=1.0), "variant": VARIANTS[mode]}
        return Parsed(a, bound_family(source, family, vocabulary, **options))

    def family(self, source: Source, overrides: Overrides, adaln: bool) -> str:
        """Name of the family: the option, what the configuration calls the algorithm, or what the tensors suggest."""
        if overrides.family is not None:
            return overrides.family
        algorithm = source.config.get("algorithm")
        if algorithm is None:
            return "Masked" if adaln else "Autoregressive"
        if str(algorithm).lower() not in FAMILIES:
            raise RemaskError(
                f"{source.name}: its configuration names {algorithm!r}, and remask knows {', '.join(FAMILIES)}"
            )
        return FAMILIES[str(algorithm).lower()]

    def heads(self, source: Source, given: int | None, layers: int, width: int) -> int:
        """Attention heads: the option, the configuration, or those of the published network with these shapes."""
        heads = optional_id(source, given, "n_heads", default=HEADS.get((layers, width)))
        if heads is None:
            raise RemaskError(
                f"{source.name}: tensors do not tell the number of heads, and no published network has {layers} layers "
                f"of width {width}. Give --heads"
            )
        if heads < 1 or width % heads:
            raise RemaskError(f"{source.name}: {heads} heads do not divide the width {width}")
        return heads

    def tokenizer(self, source: Source) -> str | None:
        rows, _ = shape(source, EMBEDDING)
        return TOKENIZERS.get(rows)

    def names(self, a: Architecture) -> dict[str, str]:
        assert isinstance(a, DiTArchitecture)
        ours = ["vocab_embed.weight", "output_layer.norm_final.weight"]
        ours += [f"output_layer.linear.{x}" for x in ("weight", "bias")]
        if a.adaln:
            ours += [f"sigma_map.mlp.{i}.{x}" for i in (0, 2) for x in ("weight", "bias")]
            ours += [f"output_layer.adaLN_modulation.{x}" for x in ("weight", "bias")]
        for i in range(a.layers):
            block = [f"{name}.weight" for name in ("norm1", "attn_qkv", "attn_out", "norm2")]
            block += [f"mlp.{j}.{x}" for j in (0, 2) for x in ("weight", "bias")]
            block += [f"adaLN_modulation.{x}" for x in ("weight", "bias") if a.adaln]
            ours += [f"blocks.{i}.{name}" for name in block]
        return {name: "backbone." + name.replace("vocab_embed.weight", "vocab_embed.embedding") for name in ours}


def silent_id(family: str, predicted: int, mask: int, given: int | None) -> int | None:
    """The id that the head has a row for and that is never predicted: the mask, where there is one.

    Duo's uniform models have no mask, those of scaling-dllms have; a GPT-2 vocabulary to which nothing was added
    (50,257 ids, autoregressive) has none either.
    """
    if family == "Uniform" and predicted not in MASK_AS_NOISE:
        return given
    return None if family == "Autoregressive" and predicted == 50257 else mask


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a Hub config.json or of a training configuration, on one level."""
    settings: dict[str, Any] = {"algorithm": config.get("model_type", config.get("algorithm"))}
    for part in (config, config.get("model"), config.get("algo")):
        if isinstance(part, dict):
            settings |= {k: v for k, v in part.items() if k in SETTINGS}
    algorithm = config.get("algo")
    if isinstance(algorithm, dict):
        settings["algorithm"] = algorithm.get("name")
    return settings
