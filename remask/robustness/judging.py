"""Drafts before and after their revision, under an autoregressive judge."""

from collections.abc import Sequence

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.evaluation.judging import Quality, judge_texts
from remask.robustness.revising import Revised


def judged(critic: Checkpoint, found: Sequence[Revised]) -> dict[str, Quality]:
    """The quality of the texts, given their prompts: "drafts" as they were, and "revised".

    RemaskError where the judge is not autoregressive, there are fewer than two texts, or one is beyond its context.
    """
    if not critic.family.exact:
        raise RemaskError(f"the judge is a {type(critic.family).__name__} model; give an autoregressive one")
    if len(found) < 2:
        raise RemaskError("a judge reads two drafts or more, so that there is an error")
    prompts = [critic.tokenizer.encode(one.prompt) if one.prompt else [] for one in found]
    end = [i for i in [critic.family.vocabulary.end] if i is not None]  # is read of a text without tokens
    quality: dict[str, Quality] = {}
    for name, texts in (("drafts", [one.draft for one in found]), ("revised", [one.text for one in found])):
        pairs = zip(texts, prompts, strict=True)
        rows = [critic.tokenizer.encode(text, behind=bool(prompt)) or end for text, prompt in pairs]
        longest = max(len(row) + len(prompt) for row, prompt in zip(rows, prompts, strict=True))
        if longest > critic.model.architecture.context:
            raise RemaskError(
                f"a text of {longest} tokens is beyond the judge's context of {critic.model.architecture.context}"
            )
        quality[name] = judge_texts(critic, rows, prompts)
    return quality
