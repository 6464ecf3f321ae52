"""Agreement with recorded outputs of published code (SMDM, LLaDA, MDLM), where the recordings are at hand.

They lie beside the checkout in `shared/vectors`, with a README of what each one is; elsewhere these tests are
skipped. Deviations are printed with `pytest -s`.
"""

import json
import math
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from remask.batch import Batch
from remask.checkpoints.checkpoint import load
from remask.checkpoints.convert import convert
from remask.checkpoints.overrides import Overrides
from remask.cli import main
from remask.families.autoregressive import Autoregressive
from remask.families.base import Family, cross_entropy, per_row
from remask.families.interpolating import Interpolating, text_order
from remask.families.latent import Operator, operator
from remask.families.masked import Masked
from remask.families.nelbo import nelbo
from remask.families.uniform import Uniform, posterior
from remask.likelihood import Request, score
from remask.likelihood.llada import llada_counts
from remask.model.attention import CAUSAL, FULL, Padded, TwoStreams
from remask.model.cache import KeyValueCache
from remask.model.sizes import Architecture
from remask.model.soft import Soft
from remask.model.transformer import Transformer
from remask.sampling import Canvas, Query, SamplingParams, State, Step, drawing, start, step, stream
from remask.sampling.adaptive import Factor, Threshold
from remask.sampling.confidence import Confidence
from remask.sampling.esolm import EsoLM
from remask.sampling.guidance import add_guidance
from remask.sampling.llada import LLaDA
from remask.sampling.psi import Psi, mixture, reveal_probability
from remask.sampling.sampler import Sampler
from remask.sampling.smdm import SMDM
from remask.vocabulary import Vocabulary

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "vectors"
pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no recorded outputs in {VECTORS}")


@pytest.fixture(autouse=True)
def without_gradients() -> Any:
    with torch.no_grad():
        yield


@cache
def recorded(name: str) -> dict[str, Tensor]:
    """The tensors of a file."""
    return load_file(VECTORS / f"{name}.safetensors")


@cache
def settings(name: str) -> dict[str, Any]:
    """A JSON file."""
    return json.loads((VECTORS / f"{name}.json").read_text())


def cases(name: str, **wanted: Any) -> list[Any]:
    """The cases of a settings file, none where it is absent."""
    if not VECTORS.is_dir():
        return []
    return [case for case in settings(name)["cases"] if all(case.get(k) == v for k, v in wanted.items())]


def close(what: str, found: Tensor, truth: Tensor, *, relative: float) -> None:
    """The largest deviation, as a share of the largest entry."""
    deviation = float((found - truth).abs().max() / truth.abs().max())
    print(f"\n  {what}: {deviation:.1e} of the largest entry (allowed {relative:.0e})")
    assert found.shape == truth.shape
    assert deviation < relative


# Weights under other names


@cache
def smdm(folder: str, context: int | None = None) -> Transformer:
    """SMDM's own file, with what its tensors cannot tell."""
    about = settings(f"{folder}/settings")
    overrides = Overrides(heads=about["n_head"], norm_eps=about["norm_eps"], context=context or about["block_size"])
    return load(VECTORS / folder / "weights.safetensors", overrides=overrides).model


@cache
def llada(name: str) -> Transformer:
    """LLaDA's own folder, such as `llada_model/gqa`."""
    with tempfile.TemporaryDirectory() as folder:
        return load(published(name, Path(folder))).model


def published(name: str, folder: Path) -> Path:
    """LLaDA's files under the names that they have on the Hub."""
    prefix = f"{name}_" if name[-3:] in ("mha", "gqa") else f"{name}/"
    for file in ("config.json", "model.safetensors"):
        (folder / file).symlink_to(VECTORS / f"{prefix}{file}")
    return folder


def dit(path: str, **overrides: Any) -> Any:
    """A DiT's own file; `path` is below the folder of vectors."""
    return load(VECTORS / f"{path}.safetensors", overrides=Overrides(heads=4, **overrides))


def filled(shape: Architecture, weights: dict[str, Tensor]) -> Transformer:
    """A network with these weights, every one of them."""
    model = Transformer(shape)
    model.load_state_dict(weights)
    return model.eval()


def over(model: Transformer, mask: int) -> Masked:
    """The family over a network's ids."""
    return Masked(objective="bound").over(Vocabulary(size=model.architecture.rows, mask=mask))


# SMDM: network and training loss


def test_smdm_logits() -> None:
    io, model = recorded("smdm_mdm/io"), smdm("smdm_mdm")
    close("smdm_mdm logits", model(io["ids"]), io["logits"], relative=2e-5)
    close("smdm_mdm logits of the first 7", model(io["ids"][:, :7]), io["logits_first7"], relative=2e-5)
    ask = torch.rand(io["ids"].shape, generator=torch.Generator().manual_seed(0)) < 0.3
    close("smdm_mdm logits where asked", model(io["ids"], ask=ask), io["logits"][ask], relative=2e-5)


def test_smdm_training_loss() -> None:
    io, model = recorded("smdm_mdm/io"), smdm("smdm_mdm")
    about = settings("smdm_mdm/settings")
    family = Masked(objective="bound", eps=about["eps_train"]).over(Vocabulary(size=129, mask=about["mask_id"]))
    batch = Batch(io["loss_x0"], torch.ones_like(io["loss_x0"], dtype=torch.bool))
    hidden, weight = family.masks(batch.scored, io["loss_t"], io["loss_u"])
    assert torch.equal(hidden, io["loss_mask"])
    close("smdm_mdm 1/p", weight, 1 / io["loss_p_mask"], relative=1e-6)
    noisy = family.inputs_for(batch, hidden, weight)
    assert torch.equal(noisy.tokens, io["loss_noisy"])
    logits = model(noisy.tokens, ask=noisy.ask, **noisy.conditions)
    close("smdm_mdm logits of the loss", logits, io["loss_logits"][hidden], relative=2e-5)
    close("smdm_mdm cross-entropy", cross_entropy(model, noisy), io["loss_ce_masked"], relative=1e-5)
    value = family.token_loss(model, noisy).sum() / batch.scored.sum()
    close("smdm_mdm loss", value, io["loss_value"], relative=1e-5)


def test_smdm_causal_logits_and_loss() -> None:
    io, model = recorded("smdm_arm/io"), smdm("smdm_arm")
    text = io["seq"]
    close("smdm_arm logits", model(text[:, :-1], attention=CAUSAL), io["logits"], relative=2e-5)
    nll = model(text[:, :-1], target=text[:, 1:].flatten(), ask=torch.ones(3, 24, dtype=torch.bool), attention=CAUSAL)
    close("smdm_arm nats of each token", nll.view(3, 24), io["per_token_nll"], relative=1e-5)
    # their text has no token in front: ours with its first token as the one that starts a text
    for row in range(3):
        family = Autoregressive().over(Vocabulary(size=128, end=int(text[row, 0])))
        batch = Batch(text[row : row + 1, 1:], torch.ones(1, 24, dtype=torch.bool))
        bound = family.bound(model, batch)
        close("smdm_arm nats of a row", bound.float(), io["per_token_nll"][row].sum()[None], relative=1e-5)
        ((_, found),) = score(model, family, [Request(text[row, 1:].tolist())])
        assert found.nats == pytest.approx(float(bound), rel=1e-6)
    close("smdm_arm loss", nll.mean(), io["loss_value"], relative=1e-5)


def test_smdm_key_value_cache() -> None:
    io, model = recorded("smdm_arm/io"), smdm("smdm_arm")
    row, cache = io["seq"][:1, :-1], KeyValueCache(2, 1, 24)
    pieces = torch.arange(24)[None].split([5, *[1] * 19], 1)
    parts = [model(row.gather(1, at), index=at, attention=CAUSAL, cache=cache) for at in pieces]
    close("smdm_arm logits through the cache", torch.cat(parts, 1), io["logits_kv_row0"], relative=2e-5)


# SMDM: likelihood


@pytest.mark.parametrize("case", cases("smdm_eval/settings"), ids=lambda c: f"case{c['case']}")
def test_smdm_likelihoods(case: dict[str, Any]) -> None:
    io, model = recorded("smdm_eval/io"), smdm("smdm_eval")
    name, family = f"case{case['case']}", over(model, 128)
    prefix, target = io[f"{name}.prefix"], io[f"{name}.target"]
    found = replayed(model, family, prefix, target, io[f"{name}.mc_u0"], io[f"{name}.mc_u"], case["cfg"])
    close(f"smdm_eval {name} Monte Carlo, w={case['cfg']}", found, io[f"{name}.mc_nll"], relative=1e-5)
    text = Request(target.tolist(), prefix.tolist())
    ((_, chained),) = score(model, family, [text], estimator="chain", guidance=case["cfg"])
    close(f"smdm_eval {name} chain rule", torch.tensor(chained.nats), io[f"{name}.chain_nll"], relative=1e-5)
    greedy = io[f"{name}.greedy_tokens"]
    if len(greedy):
        params = SamplingParams(sampler=Confidence())
        last = written(params, model, family, [prefix.tolist()], len(target), case["cfg"])[-1]
        assert torch.equal(last.tokens[0, len(prefix) :], greedy)


def test_smdm_likelihood_with_a_row_filled_with_masks() -> None:
    io, about = recorded("smdm_eval/io"), settings("smdm_eval/settings")["padded_case"]
    model = smdm("smdm_eval", context=about["block_size"])
    prefix, target = io["padded.prefix"], io["padded.target"]
    found = replayed(
        model,
        over(model, 128),
        prefix,
        target,
        io["padded.mc_u0"],
        io["padded.mc_u"],
        about["cfg"],
        behind=about["padded_length"] - len(prefix) - len(target),
    )
    close("smdm_eval padded to 2048", found, io["padded.mc_nll"], relative=1e-5)


def replayed(
    model: Transformer,
    family: Masked,
    prefix: Tensor,
    target: Tensor,
    offset: Tensor,
    uniform: Tensor,
    guidance: float,
    behind: int = 0,
) -> Tensor:
    """The Monte Carlo nats from recorded offsets [batches] and uniforms [batches, batch, length]."""
    batches, rows, length = uniform.shape
    masks = torch.full((behind,), family.mask)
    tokens = torch.cat([prefix, target, masks]).expand(rows, -1)
    at = torch.arange(length + behind)
    scored = ((at >= len(prefix)) & (at < length)).expand(rows, -1)
    prompt = (at < len(prefix)).expand(rows, -1)
    independent = Masked(objective="bound", eps=0.0).over(family.vocabulary)  # p = t, without the eps of training
    values = []
    for i in range(batches):
        levels = (offset[i] + torch.arange(rows) / rows) % 1
        drawn = torch.cat([uniform[i], torch.ones(rows, behind)], 1)
        hidden, weight = independent.masks(scored, levels, drawn)
        noisy = independent.inputs_for(Batch(tokens, scored), hidden, weight)
        denoiser = add_guidance(model, family, guidance, prompt)
        values.append(per_row(independent.token_loss(denoiser, noisy), noisy.ask).mean())
    return torch.stack(values).mean().float()


# SMDM: sampling


def written(
    params: SamplingParams,
    model: Transformer,
    family: Masked,
    prompts: Sequence[Sequence[int]],
    length: int,
    guidance: float,
    uniforms: Callable[[Tensor], Tensor] | None = None,
) -> list[Step]:
    """The steps of writing `length` tokens behind each prompt at temperature 0, perhaps with recorded uniforms."""
    canvas = Canvas.of([[*prompt, *[None] * length] for prompt in prompts])
    state = start(family, canvas, replace(params, temperature=0.0, guidance=guidance, stop=False))
    if uniforms is None:
        return list(stream(model, family, state))
    state.uniforms = uniforms  # type: ignore[method-assign]
    found = []
    while not bool(state.finished.all()):
        found += [done for done in [step(model, family, state)] if done is not None]
    return found


@pytest.mark.parametrize("case", cases("smdm_sample/settings", alg="greddy", batch=1), ids=lambda c: f"case{c['case']}")
def test_smdm_greedy_samples(case: dict[str, Any]) -> None:
    """One row; of several, theirs pools the confidences of the batch, and ours does not."""
    io, model = recorded("smdm_sample/io"), smdm("smdm_sample")
    prompt = io[f"case{case['case']}.prompt"]
    params = SamplingParams(sampler=Confidence(schedule="linear"), steps=case["steps"])
    steps = written(
        params, model, over(model, 128), prompt.tolist(), case["context_length"] - prompt.shape[1], case["cfg_scale"]
    )
    assert torch.equal(steps[-1].tokens, io[f"case{case['case']}.tokens"])
    assert [int(step.changed.sum()) for step in steps] == [n for n in case["commits"] if n]
    passes = 2 if case["cfg_scale"] else 1
    assert int(steps[-1].calls[0]) == passes * sum(n > 0 for n in case["commits"])


@pytest.mark.parametrize("case", cases("smdm_sample/settings", alg="greddy"), ids=lambda c: f"case{c['case']}")
def test_smdm_sampler_by_its_own_rules(case: dict[str, Any]) -> None:
    """Counts and choices over the whole batch, as published."""
    io, model = recorded("smdm_sample/io"), smdm("smdm_sample")
    prompt = io[f"case{case['case']}.prompt"]
    length = case["context_length"] - prompt.shape[1]
    params = SamplingParams(sampler=SMDM(pooled=True), steps=case["steps"])
    steps = written(params, model, over(model, 128), prompt.tolist(), length, case["cfg_scale"])
    assert torch.equal(steps[-1].tokens, io[f"case{case['case']}.tokens"])
    assert [int(step.changed.sum()) for step in steps] == [n for n in case["commits"] if n]


@pytest.mark.parametrize("name", ["origin0", "origin1"])
def test_smdm_ancestral_sampling(name: str) -> None:
    io, model = recorded("smdm_sample/io"), smdm("smdm_sample")
    prompt, tokens, counts = io[f"{name}.prompt"], io[f"{name}.tokens"], io[f"{name}.u_lengths"].tolist()
    (case,) = (c for c in cases("smdm_sample/settings") if str(c["case"]) == name or c.get("name") == name)
    drawn = list(io[f"{name}.u"].split(counts))

    class Replay:
        """One recorded uniform for each position still masked, which decides whether it is written in this step."""

        def __init__(self) -> None:
            self.open, self.calls = torch.ones_like(tokens, dtype=torch.bool), 0
            self.open[:, : prompt.shape[1]] = False
            self.times = torch.linspace(1, 1e-5, case["steps"] + 1)

        def __call__(self, where: Tensor) -> Tensor:
            out = torch.ones(where.shape, dtype=torch.float64)
            out[self.open] = drawn[self.calls].double()
            self.calls += 1
            share = 1 - self.times[self.calls] / self.times[self.calls - 1] if self.calls < case["steps"] else 1.0
            chosen = self.open & (out < share)
            self.open = self.open & ~chosen
            return out

    params = SamplingParams(sampler=SMDM(algorithm="origin"), steps=case["steps"])
    length = tokens.shape[1] - prompt.shape[1]
    last = written(params, model, over(model, 128), prompt.tolist(), length, case["cfg_scale"], Replay())[-1]
    assert torch.equal(last.tokens, tokens)


# LLaDA


@pytest.mark.parametrize("heads", ["mha", "gqa"])
def test_llada_logits(heads: str) -> None:
    io, model = recorded(f"llada_model/{heads}_io"), llada(f"llada_model/{heads}")
    real = model.architecture.predicted  # the recorded head has more rows, which pad the vocabulary
    assert real == settings(f"llada_model/{heads}_config")["vocab_size"]
    close(f"llada_model {heads} logits", model(io["ids"]), io["logits"][..., :real], relative=2e-5)
    valid = io["attention_mask"].bool()
    padded = model(io["ids_padded"], ask=valid, attention=Padded(valid))
    close(f"llada_model {heads} logits beside padding", padded, io["logits_padded"][valid][:, :real], relative=2e-5)
    states: list[torch.Tensor] = []
    model.model.register_forward_hook(lambda module, given, hidden: states.append(hidden))
    model(io["ids"])
    close(f"llada_model {heads} hidden states", states[0], io["hidden_states"][-1], relative=2e-5)


GENERATED = [
    (heads, case)
    for heads in ("mha", "gqa")
    for case in cases(f"llada_generate/{heads}_settings", remasking="low_confidence")
]
KEYS = [f"{heads}-{case['case']}" for heads, case in GENERATED]


def as_published(case: dict[str, Any], sampler: Sampler) -> SamplingParams:
    """Blocks, each with its share of the steps."""
    return SamplingParams(sampler=sampler, steps=case["steps"], block=case["block_length"])


@pytest.mark.parametrize(("heads", "case"), GENERATED, ids=KEYS)
def test_llada_generation(heads: str, case: dict[str, Any]) -> None:
    io, model = recorded(f"llada_generate/{heads}_io"), llada(f"llada_generate/{heads}")
    family = over(model, settings(f"llada_generate/{heads}_settings")["mask_id"])
    prompt = io[f"case{case['case']}.prompt"]
    steps = written(
        as_published(case, Confidence()), model, family, prompt.tolist(), case["gen_length"], case["cfg_scale"]
    )
    assert torch.equal(steps[-1].tokens, io[f"case{case['case']}.tokens"])
    left = [case["gen_length"], *(int(step.masked.sum()) for step in steps[:-1])]
    theirs = io[f"case{case['case']}.masked_before_step"][:, 0].tolist()
    assert left == sorted(set(theirs) - {0}, reverse=True)  # theirs runs on where nothing is left to write
    assert len(steps) <= case["nfe"]


@pytest.mark.parametrize(("heads", "case"), GENERATED, ids=KEYS)
def test_llada_generation_in_a_batch(heads: str, case: dict[str, Any]) -> None:
    """Theirs pads in front and ours behind, which a rotation by differences of positions cannot tell."""
    io, model = recorded(f"llada_generate/{heads}_io"), llada(f"llada_generate/{heads}")
    family = over(model, settings(f"llada_generate/{heads}_settings")["mask_id"])
    prompts = left_padded(io)
    last = written(as_published(case, Confidence()), model, family, prompts, case["gen_length"], case["cfg_scale"])[-1]
    for row, prompt in enumerate(prompts):
        whole = len(prompt) + case["gen_length"]
        assert torch.equal(last.tokens[row, :whole], io[f"case{case['case']}.batch_tokens"][row, -whole:])


@pytest.mark.parametrize(("heads", "case"), GENERATED, ids=KEYS)
def test_llada_generation_by_its_own_rules(heads: str, case: dict[str, Any]) -> None:
    io, model = recorded(f"llada_generate/{heads}_io"), llada(f"llada_generate/{heads}")
    family = over(model, settings(f"llada_generate/{heads}_settings")["mask_id"])
    params = as_published(case, LLaDA())
    prompt, prompts = io[f"case{case['case']}.prompt"].tolist(), left_padded(io)
    alone = written(params, model, family, prompt, case["gen_length"], case["cfg_scale"])
    assert torch.equal(alone[-1].tokens, io[f"case{case['case']}.tokens"])
    last = written(params, model, family, prompts, case["gen_length"], case["cfg_scale"])[-1]
    for row, prompt in enumerate(prompts):
        whole = len(prompt) + case["gen_length"]
        assert torch.equal(last.tokens[row, :whole], io[f"case{case['case']}.batch_tokens"][row, -whole:])


@pytest.mark.parametrize("heads", ["mha", "gqa"])
def test_llada_random_remasking(heads: str) -> None:
    io, model = recorded(f"llada_generate/{heads}_io"), llada(f"llada_generate/{heads}")
    about = settings(f"llada_generate/{heads}_settings")
    (case,) = (case for case in about["cases"] if case["remasking"] == "random")
    prompts, size = left_padded(io), io["random.u"].shape[2]
    ours = torch.zeros_like(io["random.u"], dtype=torch.float64)
    for row, prompt in enumerate(prompts):
        whole = len(prompt) + case["gen_length"]
        ours[:, row, :whole] = io["random.u"][:, row, size - whole :].double()
    params, length = as_published(case, Confidence(rule="random")), max(map(len, prompts)) + case["gen_length"]
    left = list(ours[:, :, :length])  # which positions are written in each step

    def uniforms(where: Tensor) -> Tensor:
        return left.pop(0)

    last = written(params, model, over(model, about["mask_id"]), prompts, case["gen_length"], 0.0, uniforms)[-1]
    for row, prompt in enumerate(prompts):
        whole = len(prompt) + case["gen_length"]
        assert torch.equal(last.tokens[row, :whole], io["random.tokens"][row, -whole:])


def left_padded(io: dict[str, Tensor]) -> list[list[int]]:
    """The prompts of a batch that is padded in front."""
    rows = zip(io["batch_prompt"], io["batch_attention_mask"].bool(), strict=True)
    return [row[valid].tolist() for row, valid in rows]


@pytest.mark.parametrize("case", cases("llada_likelihood/settings"), ids=lambda c: f"case{c['case']}")
def test_llada_likelihoods(case: dict[str, Any]) -> None:
    io, model = recorded("llada_likelihood/io"), llada("llada_likelihood")
    name, family = f"case{case['case']}", over(model, settings("llada_likelihood/settings")["mask_id"])
    prompt, answer = io[f"{name}.prompt"], io[f"{name}.answer"]
    values = []
    for hidden, p in zip(io[f"{name}.mask"], io[f"{name}.p_mask"], strict=True):
        tokens = torch.cat([prompt, answer]).expand(len(hidden), -1)
        given = (torch.arange(tokens.shape[1]) < len(prompt)).expand_as(tokens)
        noisy = family.inputs_for(Batch(tokens, ~given), hidden, 1 / p)
        denoiser = add_guidance(model, family, case["cfg_scale"], given)
        values.append(-per_row(family.token_loss(denoiser, noisy), noisy.ask).mean())
        counts = hidden.sum(1)
        torch.testing.assert_close(counts / len(answer), p)  # the weight L/k of the exact-count form
    close(f"llada_likelihood {name}", torch.stack(values).mean(), io[f"{name}.log_likelihood"], relative=1e-5)
    if len(answer) == 1:
        text = Request(answer.tolist(), prompt.tolist())
        ((_, found),) = score(model, family, [text], guidance=case["cfg_scale"])
        assert (found.kind, found.nats) == ("exact", pytest.approx(-case["log_likelihood"], rel=1e-5))


@pytest.mark.parametrize("case", cases("llada_likelihood/settings"), ids=lambda c: f"case{c['case']}")
def test_llada_counts(case: dict[str, Any]) -> None:
    """The numbers of masked tokens, with the published rounding, and the estimate through the command's own path."""
    io, model = recorded("llada_likelihood/io"), llada("llada_likelihood")
    name, length = f"case{case['case']}", case["answer_len"]
    for k, hidden in zip(io[f"{name}.k"].tolist(), io[f"{name}.mask"], strict=True):
        assert torch.equal(llada_counts(int(k), length, case["batch_size"]), hidden.sum(1))
    family = over(model, settings("llada_likelihood/settings")["mask_id"])
    text = Request(io[f"{name}.answer"].tolist(), io[f"{name}.prompt"].tolist())
    options: dict[str, Any] = {"draws": 64 * case["batch_size"], "guidance": case["cfg_scale"]}
    ((_, found),) = score(model, family, [text], estimator="llada", strata=case["batch_size"], **options)
    share = case["mc_num"] / options["draws"]  # theirs took fewer draws: its own error is that much larger
    assert abs(found.nats + case["log_likelihood"]) < 4 * found.stderr * (1 + 1 / share) ** 0.5 + 1e-4 * found.nats


# DiT: MDLM, Duo, Eso-LM


def test_dit_logits() -> None:
    io = recorded("dit_mdlm/io")
    time = noise_time(io["sigma"])
    off, on = (dit("dit_mdlm/weights", time=t) for t in (False, True))
    assert off.family.mask == 128
    kept = slice(0, 128)  # the mask is never predicted: its logit is impossible in ours
    close(
        "dit_mdlm logits",
        off.logits(io["ids"])[..., kept],
        io["logits_time_conditioning_off"][..., kept],
        relative=2e-5,
    )
    timed = on.model(io["ids"], time=time)[..., kept]
    close("dit_mdlm logits, conditioned", timed, io["logits_time_conditioning_on"][..., kept], relative=2e-5)
    hidden = io["ids"] == 128
    found = off.logits(io["ids"]).log_softmax(-1)[hidden][..., kept]
    close("dit_mdlm log-probabilities", found, io["log_x_theta_carry_over"][hidden][..., kept], relative=2e-5)


def test_duo_logits() -> None:
    io, m = recorded("dit_duo/io"), dit("dit_duo/weights", family="Uniform", time=True)
    time = noise_time(io["sigma"])
    close("dit_duo logits", m.model(io["ids"], time=time), io["logits"], relative=2e-5)
    close("dit_duo logits without noise", m.model(io["ids"], time=0 * time), io["logits_sigma0"], relative=2e-5)
    close("dit_duo log-probabilities", m.model(io["ids"], time=time).log_softmax(-1), io["log_x_theta"], relative=2e-5)
    soft = m.model(Soft(io["soft_input"].softmax(-1)), time=time[:2])
    close("dit_duo logits of soft tokens", soft, io["logits_soft_input"], relative=2e-5)


def noise_time(sigma: Tensor) -> Tensor:
    """The time of a noise level -log alpha, alpha = 1 - (1 - 1e-3) t."""
    return -torch.expm1(-sigma.double()).div(1 - 1e-3).float()


def test_causal_dit_logits() -> None:
    io, m = recorded("dit_ar/io"), dit("dit_ar/weights", start_id=0)
    assert isinstance(m.family, Autoregressive) and not m.model.architecture.adaln
    read, kept = io["ids"][:, :-1], slice(0, 128)
    close("dit_ar logits", m.model(read, attention=CAUSAL)[..., kept], io["logits"][..., kept], relative=2e-5)
    nll = m.model(
        read, target=io["ids"][:, 1:].flatten(), ask=torch.ones_like(read, dtype=torch.bool), attention=CAUSAL
    )
    close("dit_ar nats of each token", nll.view_as(read), io["nll_per_token"], relative=1e-5)
    cache = KeyValueCache(2, len(read), 24)
    places = [torch.full((len(read), 1), i) for i in range(read.shape[1])]
    parts = [m.model(read.gather(1, at), index=at, attention=CAUSAL, cache=cache) for at in places]
    close("dit_ar logits through the cache", torch.cat(parts, 1)[..., kept], io["logits_kv"][..., kept], relative=2e-5)
    io, m = recorded("dit_ar/adaln_io"), dit("dit_ar/adaln_weights", family="Autoregressive", start_id=0)
    logits = m.model(io["ids"], attention=CAUSAL)[..., kept]
    close("dit_ar logits with adaLN", logits, io["logits"][..., kept], relative=2e-5)


# Duo's operator


@pytest.mark.parametrize("k", [2, 5, 100, 50257])
def test_operator(k: int) -> None:
    io = {name.split(".", 1)[1]: t for name, t in recorded("alpha_operator/io").items() if name.startswith(f"K{k}.")}
    gamma = io["gamma"]
    for alpha, slope in (operator(gamma, k), Operator(k, float(gamma.min()), float(gamma.max()))(gamma)):
        torch.testing.assert_close(alpha, io["alpha_tight"], rtol=0, atol=1e-11)
        torch.testing.assert_close(slope * (k - 1) / k, io["grad_pt_tight"], rtol=0, atol=1e-11)
        torch.testing.assert_close((alpha * (k - 1) + 1) / k, io["pt_ref"], rtol=0, atol=1e-9)


def test_operator_of_the_released_table() -> None:
    io = recorded("alpha_operator/io")
    alpha, slope = Operator(50257, -5.0, -1.0)(io["table.gamma"])
    torch.testing.assert_close((alpha * 50256 + 1) / 50257, io["table.pt"], rtol=0, atol=1e-9)
    torch.testing.assert_close(slope * 50256 / 50257, io["table.grad_pt"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("k", [100, 50257])
def test_operator_against_the_published_series(k: int) -> None:
    """Theirs keeps 100 or 150 terms. Slopes are in t, over gamma -3.5 to -1.75."""
    io = {
        name.split(".", 1)[1]: t
        for name, t in recorded("alpha_operator/approx_io").items()
        if name.startswith(f"K{k}.")
    }
    alpha, slope = operator(io["gamma"], k)
    torch.testing.assert_close(alpha, io["series_alpha"], rtol=0, atol=1e-8)
    torch.testing.assert_close(slope * 1.75, io["series_dalpha"], rtol=0, atol=1e-7)
    torch.testing.assert_close(alpha, io["poly9.alpha"], rtol=0, atol=5e-5)


# MDLM


def test_mdlm_losses() -> None:
    """Theirs weighs by 1/t and masks with probability (1 - eps) t; ours by one over that probability."""
    io = recorded("losses_mdlm/io")
    p, hidden = 1 - io["alpha"], io["xt"] == 128
    m = dit("losses_mdlm/weights", time=False)
    close("losses_mdlm logits", m.logits(io["xt"])[..., :128], io["logits"][..., :128], relative=2e-5)
    denoiser = m.model
    batch = Batch(io["x0"], torch.ones_like(hidden))
    vocabulary = Vocabulary(size=129, mask=128)
    for family, name, scale in (
        (Masked(objective="low_variance", eps=0.0), "low_var", 1.0),
        (Masked(objective="bound", eps=0.0), "nelbo", -float(io["dalpha"])),
    ):
        family = family.over(vocabulary)
        masks, weight = family.masks(batch.scored, p, io["u_mask"])
        assert torch.equal(masks, hidden)
        noisy = family.inputs_for(batch, masks, weight)
        found = torch.zeros(hidden.shape).masked_scatter(hidden, scale * family.token_loss(denoiser, noisy))
        close(f"losses_mdlm {name}", found, io[f"{name}_per_token"], relative=1e-5)
        if name == "nelbo":
            valid = io["valid"].bool()
            close("losses_mdlm loss", found[valid].sum() / valid.sum(), io["loss"], relative=1e-5)


def test_mdlm_levels_are_stratified_alike() -> None:
    """Independent offsets in each stratum there, one offset here: both put one level in each."""
    io = recorded("losses_mdlm/io")
    theirs = ((io["t"] - 1e-3) / (1 - 1e-3) * 4).floor().long().sort().values
    ours = Batch(io["x0"], io["x0"] >= 0).levels(torch.Generator().manual_seed(0))
    assert torch.equal(theirs, torch.arange(4))
    assert torch.equal((ours * 4).floor().long().sort().values, torch.arange(4))


def test_rounding_of_the_rotary_tables_shows() -> None:
    """The switch is needed: without it the logits are off by far more than is allowed."""
    io, model = recorded("smdm_mdm/io"), smdm("smdm_mdm")
    other = filled(Architecture(**{**vars(model.architecture), "rope_bf16": False}), model.state_dict())
    assert float((other(io["ids"]) - io["logits"]).abs().max()) > 1e-2


@pytest.mark.parametrize("size", [1, 4, 8, 24])
def test_network_under_block_diffusion(size: int) -> None:
    io, m, name = recorded("losses_bd3/io"), dit("losses_bd3/weights"), f"loglinear.B{size}."
    both = torch.cat([io[name + "xt"], io[name + "x0"]], 1)
    logits = m.model(both, attention=TwoStreams(24, size), positions=torch.arange(24).repeat(2))[:, :24, :128]
    close(f"losses_bd3 logits, blocks of {size}", logits, io[name + "logits"][..., :128], relative=2e-5)


# Eso-LM


def eso(variant: str) -> tuple[Interpolating, dict[str, Tensor], float]:
    """The family of a recorded variant, its tensors, and its loss."""
    (found,) = (v for v in settings("losses_eso/settings")["variants"] if v["variant"] == variant)
    io = {k.split(".", 1)[1]: t for k, t in recorded("losses_eso/io").items() if k.startswith(variant + ".")}
    family = Interpolating(alpha_0=found["alpha_0"], variant="A" if variant == "A" else "B")
    return family.over(Vocabulary(size=129, mask=128)), io, found["loss"]


@pytest.mark.parametrize("variant", ["A", "B", "B_alpha_half", "B_alpha1"])
def test_eso_losses(variant: str) -> None:
    """Both terms in their layouts, from the recorded noise. The recorded A reads its diffusion rows in full."""
    family, io, loss = eso(variant)
    m, x = dit("losses_eso/weights").model, io["x0"]
    t = io["dif.t"]
    hidden, first = io["dif.zt"] == 128, x[: len(t)]
    alpha = family.alpha_0 * (1 - 0.999 * t)
    batch = Batch(first, torch.ones_like(hidden))
    weight = family.alpha_0 * 0.999 / (1 - alpha)
    noisy = family.diffusion_inputs(
        batch, hidden, weight, io["dif.u_sort"] if "dif.u_sort" in io else text_order(hidden)
    )
    if variant == "A":
        noisy = replace(noisy, attention=FULL)
    assert torch.equal(noisy.positions, io["dif.sort_idx"])
    nats = family.token_loss(m, noisy)
    close(f"losses_eso {variant} diffusion", nats, io["dif.loss_per_token_sorted"][noisy.ask], relative=1e-5)
    close(
        f"losses_eso {variant} low variance",
        nats / noisy.weight,
        io["dif.low_var_per_token_sorted"][noisy.ask],
        relative=1e-5,
    )
    total = nats.sum() / first.numel()
    if "seq.z0" in io:
        hidden, last = io["seq.z0"] == 128, x[len(t) :]
        assert torch.equal(hidden, family.left(torch.ones_like(hidden), 1 - io["seq.u_mask"]))
        noisy = family.sequential_inputs(Batch(last, torch.ones_like(hidden)), hidden, io.get("seq.u_sort"))
        assert torch.equal(noisy.positions[:, :24], io["seq.sort_idx"])
        nats = family.token_loss(m, noisy)
        truth = io["seq.loss_per_token_sorted"][noisy.ask[:, :24]]
        close(f"losses_eso {variant} sequential", nats, truth, relative=1e-5)
        total = total + nats.sum() / last.numel()
    close(f"losses_eso {variant} loss", total, torch.tensor(loss), relative=1e-5)


@dataclass(frozen=True, kw_only=True, eq=False)
class Replayed(EsoLM):
    """`EsoLM` with a recorded order and schedule, drawing by recorded Gumbel noise, (B, L, V) in that order."""

    order: Tensor
    schedule: Tensor
    noise: Tensor | None

    def begin(self, state: State, family: Family) -> None:
        passes = torch.repeat_interleave(self.schedule).expand_as(self.order)
        state.extras["pass_of"] = torch.empty_like(self.order).scatter_(1, self.order, passes)
        state.extras["rank"] = self.order.argsort(1)
        state.extras["diffusion"] = torch.full((len(passes),), len(self.schedule))

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        if self.noise is None:
            return super().commit(state, family, query, logits)
        row, column = query.ask.nonzero(as_tuple=True)
        log_probs = logits.double().log_softmax(-1)
        tokens = (log_probs + self.noise[row, state.extras["rank"][row, column]]).argmax(-1)
        state.write(query.ask, tokens, log_probs.gather(-1, tokens[:, None])[:, 0])
        return query.ask


class Overheard:
    """A denoiser whose answers are kept."""

    def __init__(self, model: Any) -> None:
        self.model, self.architecture = model, model.architecture
        self.answers: list[Tensor] = []
        self.read = 0

    def __call__(self, tokens: Tensor, **reading: Any) -> Tensor:
        logits = self.model(tokens, **reading)
        self.answers.append(logits.clone().unflatten(0, (len(tokens), -1)))
        self.read += tokens.shape[1]
        return logits


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("case", range(4))
def test_eso_sampler(case: int, cached: bool) -> None:
    """Tokens, and the logits of every pass, with the cache and without."""
    io = {k.split(".", 1)[1]: t for k, t in recorded("eso_cache/io").items() if k.startswith(f"case{case}.")}
    model = dit("eso_cache/weights").model
    family = Interpolating().over(Vocabulary(size=129, mask=128))
    order, schedule = io["sort_idx"], io["schedule"]
    canvas = Canvas.of([[None] * 24] * len(order))
    for noise, truth in ((-(-io["u"].log()).log(), "tokens"), (None, "tokens_greedy")):
        heard = Overheard(model)
        sampler = Replayed(order=order, schedule=schedule, cache=cached, noise=noise)
        state = start(family, canvas, SamplingParams(sampler=sampler, temperature=float(noise is not None), stop=False))
        *_, last = stream(heard, family, state)
        assert torch.equal(last.tokens, io[truth])
        assert last.calls.tolist() == [len(schedule)] * len(order)
        if truth == "tokens":
            which, parts = "on" if cached else "off", []
            for answer, places in zip(heard.answers, order.split(schedule.tolist(), 1), strict=True):
                place = places.argsort(1).argsort(1)  # answers come from left to right, theirs in the order of writing
                parts.append(answer.gather(1, place[..., None].expand_as(answer)))
            found = torch.cat(parts, 1)[..., :128]
            close(f"eso_cache {case}, cache {which}", found, io[f"logits_cache_{which}"][..., :128], relative=2e-5)
        if cached:
            assert heard.read == 24 + 24 - int(schedule[-1]), "once as a mask and, but for the last, once more"


# Duo: losses and posteriors


@pytest.mark.parametrize("k", [3, 11, 97, 512, 50258])
def test_duo_losses(k: int) -> None:
    io = {name.split(".", 1)[1]: t for name, t in recorded("losses_duo/io").items() if name.startswith(f"K{k}.")}
    alpha, slope = (io[x].expand_as(io["x0"]).flatten().double() for x in ("alpha", "dalpha"))
    x, z, truth = io["x0"].flatten(), io["xt"].flatten(), io["nelbo_float64"].flatten()
    exact = nelbo(io["logits"].flatten(0, 1).double(), x, z, alpha, slope)
    torch.testing.assert_close(exact, truth, rtol=1e-9, atol=1e-9)
    single = nelbo(io["logits"].flatten(0, 1), x, z, alpha.float(), slope.float()).double()
    assert float(((single - truth).abs() / (1 + truth.abs())).max()) < 1e-3  # the formula cancels at small alpha


def test_duo_loss_with_the_mask_in_the_alphabet() -> None:
    """The mask's logit is impossible, the mask itself a possible noise."""
    io = {name.split(".", 1)[1]: t for name, t in recorded("losses_duo/io").items() if name.startswith("maskin.")}
    logits = io["logits"].clone()
    logits[..., 63] = -1e6
    alpha = io["alpha"].expand_as(io["x0"]).flatten().double()
    found = nelbo(logits.flatten(0, 1).double(), io["x0"].flatten(), io["xt"].flatten(), alpha, -0.999)
    close("losses_duo with a mask", found.float(), io["nelbo_float32"].flatten(), relative=1e-4)


def test_duo_training_loss() -> None:
    io, m = recorded("losses_duo/io"), dit("losses_duo/weights", family="Uniform")
    family, rows = m.family, io["model.x0"]
    batch = Batch(rows, torch.ones_like(rows, dtype=torch.bool))
    noisy = family.replace_tokens(batch, io["model.t"], io["model.u_mask"], io["model.uniform_ids"])
    assert torch.equal(noisy.tokens, io["model.xt"])
    logits = m.model(noisy.tokens, **noisy.conditions)
    close("losses_duo logits", logits, io["model.logits"], relative=2e-5)
    found = family.token_loss(m.model, noisy).view_as(rows)
    close("losses_duo nats of each token", found, io["model.nelbo_per_token"], relative=1e-5)
    close("losses_duo loss", found.mean(), io["model.loss"], relative=1e-5)


@pytest.mark.parametrize("case", range(5))
def test_duo_posterior(case: int) -> None:
    io = recorded("duo_posterior/io")
    (about,) = (c for c in cases("duo_posterior/settings") if c.get("case") == case)
    alpha_s, alpha_t = (float(torch.tensor(about[x])) for x in ("alpha_s", "alpha_t"))
    p, z = io[f"case{case}.p_x0"], io[f"case{case}.zt"]
    loose = 1e-4 if alpha_s - alpha_t < 2e-3 else 1e-5  # their float32 alphas cancel
    q = posterior(z, p, alpha_s, alpha_t)
    close(f"duo_posterior {case}", q, io[f"case{case}.q"], relative=loose)
    torch.testing.assert_close(q.sum(-1), torch.ones_like(q[..., 0]), rtol=1e-6, atol=1e-6)
    hot = torch.nn.functional.one_hot(io[f"case{case}.onehot_x0"], p.shape[-1]).to(p)
    close(
        f"duo_posterior {case}, a known x",
        posterior(z, hot, alpha_s, alpha_t),
        io[f"case{case}.q_onehot"],
        relative=loose,
    )


@pytest.mark.parametrize("step", range(3))
def test_duo_ancestral_steps(step: int) -> None:
    """One step through the two networks: from ids to the law of the next ids."""
    io, about = recorded("duo_posterior/io"), cases("duo_posterior/settings", step=step)
    if not about:
        pytest.skip(f"no step {step} was recorded")
    t, s = about[0]["t"], 0.0 if about[0]["noise_removal"] else about[0]["t"] - about[0]["dt"]
    networks = split_networks()
    z = io[f"step{step}.uniform_x_full"]
    m = networks["duo"]
    p = m.model(z, time=torch.full((len(z),), t)).double().softmax(-1)
    q = posterior(z, p, m.family.alpha(s) if s else 1.0, m.family.alpha(t))[:, :8]
    close(f"duo_posterior step {step}", q, io[f"step{step}.uniform_q"], relative=1e-4 if t < 1e-3 else 2e-5)
    masked, m = io[f"step{step}.masked_x"], networks["mdlm"]
    hidden = masked == 128
    found = m.logits(masked).softmax(-1)[hidden]
    close(f"duo_posterior step {step}, masked", found, io[f"step{step}.masked_p_x0"][hidden], relative=2e-5)


@cache
def split_networks() -> dict[str, Any]:
    """The two networks that one file of vectors holds, each saved as a checkpoint of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, family in (("duo", "Uniform"), ("mdlm", "Masked")):
            weights = recorded("duo_posterior/weights").items()
            part = {k.removeprefix(f"{name}."): v for k, v in weights if k.startswith(f"{name}.")}
            save_file(part, Path(folder) / f"{name}.safetensors")
            found[name] = load(Path(folder) / f"{name}.safetensors", overrides=Overrides(heads=4, family=family))
    return found


ALPHA = {
    "log-linear": lambda t: 1 - 0.999 * t,
    "cosine": lambda t: 1 - math.cos(math.pi / 2 * (1 - 0.999 * t)),
}
"""The published schedules; ours is the first without its 0.999 for masked families, which goes to 0 at t = 1."""


@dataclass(frozen=True, kw_only=True)
class Scheduled(Uniform):
    """Uniform noise on a published schedule; at s = 0 nothing is noised, as in the removal of the last noise."""

    noise: str = "log-linear"

    def alpha(self, t: Any) -> Any:
        return ALPHA[self.noise](t) if t else 1.0


@pytest.mark.parametrize("case", cases("psi/settings"), ids=lambda c: f"{c['kind']}-{c['noise']}{c['case']}")
def test_psi_laws(case: dict[str, Any]) -> None:
    """The prediction after top-p, and the law of the next ids, for both kinds of noise, with and without correction."""
    io, name = recorded("psi/io"), f"{case['kind']}.{case['noise']}.{case['case']}."
    logits, z = io[name + "logits"].double(), io[name + "x"]
    masked, k = case["kind"] == "masked", logits.shape[-1]
    if masked:
        logits = logits.index_fill(-1, torch.tensor([case["mask_id"]]), -1e6)
    p = drawing.log_probs(logits.flatten(0, -2), top_p=case["p_nucleus"]).exp().view_as(logits)
    hidden = z == case["mask_id"] if masked else torch.ones_like(z, dtype=torch.bool)
    close(f"psi {name} prediction", p[hidden], io[name + "p_x0"][hidden], relative=2e-5)
    t, kappa = case["t"], case["kappa"]
    s = 0.0 if case["noise_removal"] else t - case["dt"]
    family = Scheduled(noise=case["noise"]).over(Vocabulary(k))
    alpha_s, alpha_t = family.alpha(s), family.alpha(t)
    for truth, share in ((io[name + "q_ancestral"], 1.0), (io[name + "q_psi"], kappa)):
        if masked:
            shown, again = reveal_probability(alpha_s, alpha_t, share), (1 - share) * (1 - alpha_s)
            other = torch.nn.functional.one_hot(torch.tensor(case["mask_id"]), k).double()
            same = torch.nn.functional.one_hot(z, k).double()
            found = torch.where(hidden[..., None], shown * p + (1 - shown) * other, (1 - again) * same + again * other)
            if share == 1.0:  # at written positions theirs is left to a copy afterwards
                found, truth = found[hidden], truth[hidden]
        else:
            own = p.gather(-1, z[..., None])[..., 0]
            keep, fresh, predicted = mixture(family, own, s, t, share)
            q = fresh[..., None] / k + predicted[..., None] * p
            found = q.scatter_add(-1, z[..., None], keep[..., None])
        close(f"psi {name} law, kappa {share}", found, truth, relative=1e-4 if case["noise_removal"] else 2e-5)


def test_psi_schedules() -> None:
    """kappa of every step, but for the last of each published segment, which is 1, and a rescaling that caps twice."""
    io = recorded("psi/schedules")
    kinds = {"constant-remdm": "sigma", "max-capped": "capped", "max-rescale": "rescaled", "constant": "constant"}
    for number, case in enumerate(settings("psi/settings")["schedules"] if VECTORS.is_dir() else []):
        alpha, kappas, steps = io[f"{number}.alpha"], io[f"{number}.kappas"], case["steps"]
        parts = [round(case[f"{name}_frac"] * (steps + 1)) for name in ("high", "middle")]
        edges, checked = [0, parts[0], sum(parts), steps + 1], 0
        for name, first, last in zip(("high", "middle", "low"), edges, edges[1:]):
            mode = case[f"{name}_mode"]
            kind, _, value = mode.rpartition("-")
            if kind not in kinds:
                sampler = Psi(kappa={"pure-posterior": 1.0, "pure-pc": 0.0}[mode])
            elif kind == "max-rescale":
                sampler = Psi(schedule="capped", eta=float(value))  # theirs: eta min(eta, most)
            else:
                sampler = Psi(schedule=kinds[kind], eta=float(value), kappa=float(value))
            for i in range(first, min(last - 1, steps)):
                a_t, a_s = (float(x) for x in alpha[i : i + 2])
                found = sampler.corrected_kappa(a_s, a_t)
                if kind == "max-rescale":
                    found = 1 - (1 - found) * float(value)
                assert found == pytest.approx(float(kappas[i]), abs=2e-4), (number, i)
                checked += 1
        assert checked > 0.8 * steps


# Fast-dLLM


RULES = {"topk": lambda value: LLaDA(), "threshold": lambda value: Threshold(threshold=value)}
RULES["factor"] = lambda value: Factor(factor=value)


class Lengths:
    """A network that notes how many positions each call reads."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.architecture, self.device, self.read = model, model.architecture, model.device, list[int]()

    def __call__(self, tokens: Tensor, **arguments: Any) -> Tensor:
        self.read.append(tokens.shape[1])
        return self.model(tokens, **arguments)


@pytest.mark.parametrize("cache", ["none", "prefix", "dual"])
@pytest.mark.parametrize("heads", ["mha", "gqa"])
def test_fastdllm(heads: str, cache: str) -> None:
    """The tokens, and which part of the row each network call reads, with every cache and rule."""
    io, model = recorded(f"fastdllm/{heads}_io"), llada(f"fastdllm/{heads}")
    about = settings(f"fastdllm/{heads}_settings")
    found = [case for case in about["cases"] if case["cache"] == cache]
    assert len(found) == 15
    for case in found:
        prompt, sampler = io[case["prompt"]], RULES[case["rule"]](case["value"])
        steps = case["steps"] if sampler.takes_steps else None
        kept = None if cache == "none" else cache.capitalize()
        params = SamplingParams(sampler=sampler, steps=steps, block=case["block_length"], cache=kept)
        family, counted = over(model, about["mask_id"]), Lengths(model)
        last = written(params, counted, family, prompt.view(1, -1).tolist(), case["gen_length"], 0.0)[-1]  # type: ignore[arg-type]
        assert torch.equal(last.tokens, io[f"{case['key']}.tokens"].view(1, -1)), case["key"]
        theirs = iter(case["forward_lengths"])  # with a cache, they call once more where a first call fills its block
        assert all(length in theirs for length in counted.read), case["key"]
        assert cache != "none" or counted.read == case["forward_lengths"], case["key"]


# The same through the command line


STORED = ["--no-stop", "--json", "--precision", "stored"]


def remask(*arguments: Any) -> str:
    """Standard output of a command that succeeds."""
    output = StringIO()
    with redirect_stdout(output):
        main(list(map(str, arguments)))
    return output.getvalue()


def ids(tokens: Tensor) -> str:
    return ",".join(map(str, tokens.flatten().tolist()))


def test_llada_by_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    remask("convert", published("llada_generate/gqa", tmp_path / "theirs"), tmp_path / "ours")
    io = recorded("llada_generate/gqa_io")
    for case in cases("llada_generate/gqa_settings", remasking="low_confidence")[:3]:
        name = f"case{case['case']}"
        options = f"--steps {case['steps']} --block {case['block_length']} --guidance {case['cfg_scale']}".split()
        fixed = [
            "--sampler",
            "LLaDA",
            "--temperature",
            0,
            "--length",
            case["gen_length"],
            "--no-stop",
            "--json",
            "--precision",
            "stored",
        ]
        prompt = io[f"{name}.prompt"]
        (found,) = json.loads(remask("sample", tmp_path / "ours", "--ids", ids(prompt), *fixed, *options))
        assert found["tokens"] == io[f"{name}.tokens"][0, prompt.shape[1] :].tolist()


def test_smdm_by_the_command_line(tmp_path: Path) -> None:
    given = ["--heads", settings("smdm_eval/settings")["n_head"]]
    remask("convert", VECTORS / "smdm_eval/weights.safetensors", tmp_path / "ours", *given)
    io, (case, *_) = recorded("smdm_eval/io"), cases("smdm_eval/settings")
    texts = ["--prompt_ids", ids(io["case0.prefix"]), "--ids", ids(io["case0.target"]), "--guidance", case["cfg"]]
    found = json.loads(remask("score", tmp_path / "ours", *texts, "--estimator", "chain", "--json"))
    assert found["nats"] == pytest.approx(float(io["case0.chain_nll"]), rel=1e-5)
    found = json.loads(remask("score", tmp_path / "ours", *texts, "--estimator", "smdm", "--draws", 512, "--json"))
    assert found["kind"] == "bound" and math.isfinite(found["stderr"])


def test_smdm_sampling_by_the_command_line(tmp_path: Path) -> None:
    given = ["--heads", settings("smdm_sample/settings")["n_head"]]
    remask("convert", VECTORS / "smdm_sample/weights.safetensors", tmp_path / "ours", *given)
    io = recorded("smdm_sample/io")
    for case in cases("smdm_sample/settings", alg="greddy", batch=1)[1:4]:
        prompt, tokens = io[f"case{case['case']}.prompt"], io[f"case{case['case']}.tokens"]
        options = [
            "--steps",
            case["steps"],
            "--guidance",
            case["cfg_scale"],
            "--temperature",
            0,
            "--no-stop",
            "--json",
            "--precision",
            "stored",
        ]
        length = ["--length", tokens.shape[1] - prompt.shape[1]]
        fixed = ["--sampler", "SMDM:pooled=true", *options, *length]
        (found,) = json.loads(remask("sample", tmp_path / "ours", "--ids", ids(prompt), *fixed))
        assert found["tokens"] == tokens[0, prompt.shape[1] :].tolist()


def test_dit_by_the_command_line(tmp_path: Path) -> None:
    path = convert(VECTORS / "dit_mdlm/weights.safetensors", tmp_path / "ours", overrides=Overrides(heads=4))
    io = recorded("dit_mdlm/io")
    found = load(path).logits(io["ids"])[..., :128]
    close("dit_mdlm logits, converted", found, io["logits_time_conditioning_off"][..., :128], relative=2e-5)
    (sample,) = json.loads(remask("sample", path, "--ids", ids(io["ids"][:1, :4]), "--length", 8, "--json"))
    assert len(sample["tokens"]) == 8 and 128 not in sample["tokens"]
