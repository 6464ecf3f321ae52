"""Generation from Python: seeds, lists of prompts, what a signature shows, and what is said of a wrong option."""

import inspect
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from tables import rng, tiny

import remask
from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.generation.request import GenerationRequest, prompts_of
from remask.generation.rows import begin, seeds_of
from remask.model.transformer import Transformer
from remask.presets import presets
from remask.sampling.confidence import Confidence
from remask.sampling.llada import LLaDA
from remask.sampling.params import SamplingParams
from remask.sampling.sampler import sampler_of
from remask.vocabulary import Vocabulary

PROMPTS = [[1, 2, 3], [4], [1, 2, 3], [5, 6], [], [1, 2, 3]]


@pytest.fixture(scope="module")
def masked() -> Checkpoint:
    return Checkpoint(tiny(12, 11, sharpness=2.0), Masked().over(Vocabulary(size=12, mask=11, end=0)), None, {})


@pytest.fixture(scope="module")
def causal() -> Checkpoint:
    return Checkpoint(tiny(11, 11, sharpness=2.0), Autoregressive().over(Vocabulary(size=11, end=0)), None, {})


# Seeds


def test_a_seed_is_of_the_row_itself_and_not_of_its_place() -> None:
    rows = [[*prompt, None, None] for prompt in PROMPTS]
    seeds = seeds_of(3, rows)
    assert len(set(seeds)) == len(rows), "equal prompts draw anew"
    assert all(0 <= seed < 2**63 for seed in seeds)
    order = [3, 0, 4, 1, 2, 5]  # equal prompts keep their order
    assert seeds_of(3, [rows[i] for i in order]) == [seeds[i] for i in order]
    assert seeds_of(3, rows[:2]) == seeds[:2]
    assert not set(seeds) & set(seeds_of(4, rows))
    assert seeds_of(3, [[1, None]]) != seeds_of(3, [[1, None, None]])


def test_listed_seeds_are_each_rows_own() -> None:
    rows = [[1, None]] * 3
    one, two, three = seeds_of([7, 8, 7], rows)
    assert one == three != two
    assert seeds_of([7], rows[:1]) == seeds_of(7, rows[:1]) == [one]
    with pytest.raises(RemaskError, match="2 seeds for 3 prompts; give one seed, or one for each prompt"):
        seeds_of([1, 2], rows)


@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_any_batching_of_a_list_gives_the_same_texts(kind: str, request: pytest.FixtureRequest) -> None:
    m: Checkpoint = request.getfixturevalue(kind)
    options = {"length": 9, "seed": 5, "stop": True, "temperature": 1.2}
    every = remask.sample(m, prompt=PROMPTS, **options)
    assert [s.tokens for s in every[:2]] == [s.tokens for s in remask.sample(m, prompt=PROMPTS[:2], **options)]
    for prompt, found in [(PROMPTS[0], every[0]), (PROMPTS[1], every[1]), (PROMPTS[3], every[3])]:
        alone = remask.sample(m, prompt=prompt, **options)
        assert (alone.tokens, alone.evaluations, alone.ended) == (found.tokens, found.evaluations, found.ended)
        assert alone.log_prob == pytest.approx(found.log_prob, rel=1e-4)
    same = [every[i].tokens for i in (0, 2, 5)]
    assert same[0] != same[1] != same[2] != same[0], "equal prompts differ"
    order = [3, 0, 4, 1, 2, 5]
    moved = remask.sample(m, prompt=[PROMPTS[i] for i in order], **options)
    assert [s.tokens for s in moved] == [every[i].tokens for i in order]


def test_listed_seeds_choose_the_texts(masked: Checkpoint) -> None:
    one, two, again = remask.sample(masked, prompt=[[1, 2]] * 3, seed=[7, 8, 7], length=8)
    assert one.tokens == again.tokens != two.tokens
    assert remask.sample(masked, prompt=[1, 2], seed=7, length=8).tokens == one.tokens


def test_a_stream_ends_with_the_sample(masked: Checkpoint) -> None:
    *_, last = remask.stream(masked, prompt=[1, 2], length=6, sampler="Confidence", seed=2, stop=False)
    found = remask.sample(masked, prompt=[1, 2], length=6, sampler="Confidence", seed=2, stop=False)
    assert last.tokens[0].tolist() == [1, 2, *found.tokens] and int(last.calls[0]) == found.evaluations == 6


# Options


@pytest.mark.parametrize("function", [remask.sample, remask.stream], ids=["sample", "stream"])
def test_the_signature_shows_every_option(function: object) -> None:
    shown = inspect.signature(function).parameters  # type: ignore[arg-type]
    assert next(iter(shown)) == "checkpoint"
    assert set(shown) - {"checkpoint"} == {field.name for field in fields(GenerationRequest)}
    assert {field.name for field in fields(SamplingParams)} <= set(shown)
    assert shown["length"].default is None and shown["temperature"].default == 1.0 and shown["prompt"].default == ""
    assert all(p.kind is p.KEYWORD_ONLY for name, p in shown.items() if name != "checkpoint")
    assert function.__doc__ and function.__name__ in ("sample", "stream")  # type: ignore[attr-defined]


def test_the_length_is_what_the_context_leaves_but_at_most_128(masked: Checkpoint) -> None:
    """For each prompt by itself; the text is that of the same length given."""
    way: dict[str, Any] = {"sampler": "Confidence", "steps": 4, "stop": False, "seed": 1}
    texts = remask.sample(masked, prompt=[[1, 2], [3] * 60], **way)
    assert [len(text.tokens) for text in texts] == [62, 4]
    assert texts[1].tokens == remask.sample(masked, prompt=[3] * 60, length=4, **way).tokens
    *_, last = remask.stream(masked, prompt=[3] * 63, **way)
    assert last.tokens.shape == (1, 64)
    shape = replace(masked.model.architecture, context=200)
    roomy = Transformer(shape)
    roomy.load_state_dict(masked.model.state_dict())
    wide = Checkpoint(roomy, masked.family, None, {})
    assert [len(text.tokens) for text in remask.sample(wide, prompt=[[1], [3] * 199], **way)] == [128, 1]
    with pytest.raises(RemaskError, match="a prompt of 64 tokens leaves 0 of the context of 64 tokens; give a shorter"):
        remask.sample(masked, prompt=[3] * 64)
    with pytest.raises(RemaskError, match=r"a prompt of 60 tokens leaves 4 .*, and min_length is 5; give a shorter"):
        remask.sample(masked, prompt=[3] * 60, min_length=5)
    with pytest.raises(RemaskError, match="min_length is 129; it must be from 0 to length, which is 128"):
        remask.sample(masked, prompt=[3], min_length=129)


def test_what_is_wrong_is_said_with_what_would_be_right(masked: Checkpoint) -> None:
    for options, says in [
        ({"temprature": 0.5}, "unknown option 'temprature'. Did you mean 'temperature'"),
        ({"promt": "a"}, "unknown option 'promt'. Did you mean 'prompt'"),
        ({"sampler": "Confidense"}, "unknown sampler 'Confidense'. Did you mean 'Confidence'"),
        ({"sampler": "LLaDA:late=true"}, "unknown option of LLaDA 'late'. Did you mean 'late_end'"),
        ({"sampler": "LeftToRight"}, "LeftToRight does not fit Masked models; these do: Ancestral"),
        ({"length": 0}, "length is 0"),
        ({"length": 65}, "length is 65; it must be at most the context of 64"),
        ({"steps": 0}, "steps is 0"),
        ({"prompt": []}, "the list of prompts is empty"),
        ({"prompt": [3, 12]}, "id 12 is not among the model's 12"),
        ({"prompt": [1], "infill": "a [MASK:2]"}, "give a prompt or a text to infill, not both"),
        ({"negative_prompt": [1]}, "negative_prompt goes with guidance"),
        (
            {"prompt": [1], "negative_prompt": [1, 2], "guidance": 1.0},
            "the negative prompt has 2 tokens, and a prompt 1",
        ),
        ({"window": 8}, "give block too"),
        ({"expand": "DAEDALUS"}, "unknown expansion 'DAEDALUS'. Did you mean 'DAEDAL'"),
        (
            {"infill": "a [MASK:2]", "expand": "DAEDAL"},
            "expand is for a continuation; a hole of open length",
        ),
        ({"infill": "no hole"}, r"the text to infill has no hole; write one as"),
        ({"prompt": [1] * 60, "length": 5}, "60 tokens of text and 5 to write are beyond the context of 64 tokens"),
    ]:
        for function in (remask.sample, remask.stream):
            with pytest.raises(RemaskError, match=says):
                function(masked, **{"length": 5, **options})


def test_a_negative_prompt(masked: Checkpoint) -> None:
    way = {"prompt": [1, 2, 3], "length": 6, "guidance": 2.0}
    plain = remask.sample(masked, **way)
    moved = remask.sample(masked, **way, negative_prompt=[7, 8])
    assert moved.evaluations == plain.evaluations and moved.log_prob != plain.log_prob
    both = remask.sample(masked, **way | {"prompt": [[1, 2, 3], [5, 6]]}, negative_prompt=[7, 8])
    assert both[0].tokens == moved.tokens


def test_presets(masked: Checkpoint) -> None:
    for name in presets():
        settings = remask.preset(name)
        assert remask.sample(masked, **settings, length=8).evaluations >= 1, name
    assert remask.preset("fast-dllm", block=16) == {**remask.preset("fast-dllm"), "block": 16}
    assert remask.preset("fast-dllm")["cache"] == "Dual"
    with pytest.raises(RemaskError, match=r"unknown preset 'fast-dlm'. Did you mean 'fast-dllm'"):
        remask.preset("fast-dlm")


def test_a_sampler_by_its_name_with_options(masked: Checkpoint) -> None:
    family = masked.family
    assert sampler_of(family, "LLaDA:late_end=true,remasking=random") == LLaDA(late_end=True, remasking="random")
    assert sampler_of(family, Confidence(rule="left")) == Confidence(rule="left")
    assert type(sampler_of(family)).__name__ == family.sampler


def test_one_prompt_or_a_list_of_them() -> None:
    for prompt, expected in (
        ("ab", (["ab"], True)),
        ([1, 2], ([[1, 2]], True)),
        (["ab", [1]], (["ab", [1]], False)),
        ([[1, 2]], ([[1, 2]], False)),
    ):
        assert prompts_of(GenerationRequest(prompt=prompt)) == expected


def test_params_of_the_rows(masked: Checkpoint) -> None:
    request = GenerationRequest(prompt=[[1], [2, 3]], length=6, block=3, steps=4, top_k=2, stop=False)
    state = begin(masked, request)
    assert {(p.block, p.steps, p.top_k, p.stop) for p in state.params} == {(3, 2, 2, False)}
    assert state.open.sum(1).tolist() == [6, 6] and state.seed.tolist() == seeds_of(
        0, [[1, *[None] * 6], [2, 3, *[None] * 6]]
    )


def test_a_damaged_model_is_said_to_be(masked: Checkpoint) -> None:
    broken = tiny(12, 11)
    with torch.no_grad():
        broken.lm_head.weight.normal_(generator=rng(0)).fill_(torch.nan)
    for temperature in (0.0, 1.0):
        with pytest.raises(RemaskError, match="the model predicts nan"):
            remask.sample(
                Checkpoint(broken, masked.family, None, {}), prompt=[1], length=3, temperature=temperature, stop=False
            )
