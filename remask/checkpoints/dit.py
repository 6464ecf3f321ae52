"""The adaLN DiT of MDLM, Duo, Eso-LM and scaling-dllms, as Lightning checkpoints or Hub folders hold it.

Names are the network's own behind `backbone.`. The same tensors serve masked and uniform-state models: which one
it is, and whether it is told the noise level, comes from its configuration or from `--family` and `--time`.
Source: models/dit.py of s-sahoo/scaling-dllms and s-sahoo/duo.
"""

from dataclasses import replace
from typing import Any

from remask.checkpoints.base import Format, Overrides, Parsed, count, family_over, integer, number, optional_id, shape
from remask.checkpoints.source import Source
from remask.errors import RemaskError
from remask.model.dit import DiTArchitecture
from remask.model.sizes import SIZES, Architecture
from remask.vocabulary import Vocabulary

FAMILIES = {"mdlm": "Masked", "ar": "Autoregressive", "duo": "Uniform", "duo_base": "Uniform",
            "distillation": "Uniform", "esolm": "Interpolating", "eso-lm": "Interpolating",
            "eso_lm": "Interpolating"}  # fmt: skip
"""Families by the name that configurations give the algorithm."""
VARIANTS = {"causal": "B", "mixed2": "A"}
"""Of Eso-LM, by how its diffusion rows attend."""
PARTS = ("n_heads", "length", "model_length", "time_conditioning", "alpha_0", "diffusion_attn_mode")
"""Settings that are looked for."""
SPECIAL = {
    50257: {"start": 50256, "end": 50256},
    50258: {"mask": 50257, "start": 50256, "end": 50256},
    30522: {"mask": 103, "start": 101, "end": 102},
    32001: {"mask": 32000, "start": 1, "end": 2},
    131072: {"mask": 3, "start": 1, "end": 2},
}
"""Special ids of the published vocabularies (GPT-2, BERT, Llama 2, NVIDIA's) by number of ids."""

ALPHABETS = (32001, 131072)
"""Vocabularies of scaling-dllms, whose uniform models keep the mask as a kind of noise and never predict it."""
GPT2 = "openai-community/gpt2"
TOKENIZERS = {50257: GPT2, 50258: GPT2, 30522: "google-bert/bert-base-uncased", 32001: "TinyLlama/TinyLlama_v1.1"}
HEADS = {(8, 256): 8, (6, 384): 6, (12, 768): 12, (24, 1024): 16, (16, 640): 8}
"""Heads of the published networks (tiny, base, small, medium, 75M) by layers and width; others share SMDM's shapes."""
HEADS |= {(a.layers, a.width): a.heads for name, a in SIZES.items() if name[0].isdigit() and a.ffn == 4 * a.width}


class DiTFormat(Format):
    """The DiT's layout; `rotary_emb.inv_freq` is a function of the shape and is not read."""

    name = "dit"
    mark = "backbone.blocks.0.attn_qkv.weight"
    wrapper = "backbone."
    overrides = frozenset({"time"})

    def read(self, source: Source, overrides: Overrides) -> Parsed:
        prefix = self.wrapper
        layers = count(source.tensors, prefix + "blocks.{}.attn_qkv.weight")
        rows, width = shape(source, prefix + "vocab_embed.embedding")
        ffn, _ = shape(source, prefix + "blocks.0.mlp.0.weight")
        predicted, _ = shape(source, prefix + "output_layer.linear.weight")
        adaln = prefix + "sigma_map.mlp.0.weight" in source.tensors
        config = flat(source.config)
        said = replace(source, config=config)
        algorithm = config.get("algorithm")
        if overrides.family is None and algorithm is not None and str(algorithm).lower() not in FAMILIES:
            raise RemaskError(
                f"{source.name}: its configuration names {algorithm!r}, and remask knows {', '.join(FAMILIES)}"
            )
        family = overrides.family or FAMILIES.get(str(algorithm).lower())
        family = family or ("Masked" if adaln else "Autoregressive")
        time = overrides.time if overrides.time is not None else config.get("time_conditioning", family == "Uniform")
        heads = self.heads(said, overrides.heads, layers, width)
        ids = SPECIAL.get(predicted, {})
        mask = overrides.mask_id if overrides.mask_id is not None else ids.get("mask", predicted - 1)
        silent = mask  # the mask has a row, and is never predicted
        if family == "Uniform" and predicted not in ALPHABETS:
            silent = overrides.mask_id
        if predicted == 50257 and family == "Autoregressive":  # GPT-2's own ids, none added
            silent = None
        a = DiTArchitecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=heads,
            head_width=width // heads,
            ffn=ffn,
            context=integer(said, overrides.context, "model_length", "length", default=1024),
            rope_base=number(said, overrides.rope_theta, default=10000.0),
            norm_eps=number(said, overrides.norm_eps, default=1e-5),
            time=bool(time) and adaln,
            adaln=adaln,
            condition=shape(source, prefix + "sigma_map.mlp.0.weight")[0] if adaln else 128,
            silent=silent,
            rows=rows,
            predicted=predicted,
        )
        vocabulary = Vocabulary(
            rows,
            mask=mask if family in ("Masked", "Interpolating") else None,
            start=overrides.start_id if overrides.start_id is not None else ids.get("start"),
            end=overrides.end_id if overrides.end_id is not None else ids.get("end"),
        )
        options: dict[str, Any] = {}
        if family == "Interpolating":
            mode = config.get("diffusion_attn_mode", "causal")
            if mode not in VARIANTS:
                raise RemaskError(f"{source.name}: diffusion_attn_mode {mode!r} is of neither variant of Eso-LM")
            options = {"alpha_0": number(said, None, "alpha_0", default=1.0), "variant": VARIANTS[mode]}
        return Parsed(a, family_over(source, family, vocabulary, **options))

    def heads(self, source: Source, hint: int | None, layers: int, width: int) -> int:
        """Attention heads: given, configured, or those of the published network with these shapes."""
        found = optional_id(source, hint, "n_heads", default=HEADS.get((layers, width)))
        if found is None:
            raise RemaskError(
                f"{source.name}: tensors do not tell the number of heads, and no published network has {layers} layers "
                f"of width {width}. Give --heads"
            )
        if found < 1 or width % found:
            raise RemaskError(f"{source.name}: {found} heads do not divide the width {width}")
        return found

    def tokenizer(self, source: Source) -> str | None:
        rows, _ = shape(source, self.wrapper + "vocab_embed.embedding")
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


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of a Hub config.json or of a training configuration, on one level."""
    found: dict[str, Any] = {"algorithm": config.get("model_type", config.get("algorithm"))}
    for part in (config, config.get("model"), config.get("algo")):
        if isinstance(part, dict):
            found |= {k: v for k, v in part.items() if k in PARTS}
    algorithm = config.get("algo")
    if isinstance(algorithm, dict):
        found["algorithm"] = algorithm.get("name")
    return found
