"""The model `remask` of lm-evaluation-harness: any checkpoint that `remask.load` opens.

Likelihoods of answers come from `remask.evaluation.zeroshot.answers`, as those of `remask eval`, so that both give the
same numbers for the same items: exact for autoregressive models, otherwise by an estimator.
"""

from collections.abc import Sequence
from typing import Any

import torch

import remask
from remask.checkpoints.checkpoint import load
from remask.conversation import trained_template
from remask.errors import RemaskError, unknown
from remask.evaluation.zeroshot.answers import answers, estimates, estimator_for
from remask.evaluation.zeroshot.greedy import greedy_estimator
from remask.evaluation.zeroshot.protocol import Scoring, protocol
from remask.harness.chat import WithChat, chat_text
from remask.harness.windows import windows
from remask.tasks.zeroshot import Question

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ModuleNotFoundError as error:
    if error.name != "lm_eval":
        raise
    wanted = "lm-evaluation-harness is not installed; install it with: pip install 'remask[eval]'"
    raise ModuleNotFoundError(wanted, name="lm_eval") from None

SCORING = ("estimator", "draws", "strata", "guidance", "greedy", "seed")
WRITING = ("sampler", "steps", "block", "cache")


@register_model("remask")
class RemaskLM(LM):
    """A checkpoint as a model of the harness."""

    def __init__(
        self,
        path: str,
        protocol_name: str | None = None,
        is_greedy: bool = True,
        device: str = "auto",
        precision: Any = "stored",
        tokenizer: str | None = None,
        max_gen_toks: int = 256,
        **options: Any,
    ) -> None:
        """Opens a checkpoint.

        Args:
            path: A run directory, a published folder, or other people's weights.
            protocol_name: Settings of published numbers, as `remask eval --protocol`; also given as `protocol`.
            is_greedy: Whether the harness is told if greedy decoding writes an answer. Only tasks of one continuation,
                as LAMBADA, need it; it takes as many network calls as the answer has tokens.
            device: As for `remask eval`.
            precision: As for `remask eval`.
            tokenizer: A tokenizer.json, where the checkpoint has none.
            max_gen_toks: Tokens of a generated text, where the task does not say.
            options: estimator, draws, strata, guidance, greedy and seed, as for `remask eval`; sampler, steps, block
                and cache, as for `remask sample`. batch_size and max_batch_size have no effect: batches are made by
                a budget of tokens.
        """
        super().__init__()
        self.path, self.is_greedy, self.max_gen_toks = path, is_greedy, max_gen_toks
        chosen = options.pop("protocol", protocol_name)
        options = {name: value for name, value in options.items() if name not in ("batch_size", "max_batch_size")}
        for name in options:
            if name not in SCORING + WRITING:
                raise unknown("argument of the model", name, (*SCORING, *WRITING, "protocol", "is_greedy", "path"))
        self.protocol = protocol(chosen)
        self.scoring_options = {name: options[name] for name in SCORING if name in options}
        self.writing = {name: options[name] for name in WRITING if name in options}
        if device == "cuda:0" and not torch.cuda.is_available():
            device = "auto"  # the harness names this one where its --device is not given
        opened = load(path, device=device, precision=precision, tokenizer=tokenizer)
        self.plain = opened
        self.checkpoint = WithChat.around(opened)
        self._device = opened.model.device
        estimator_for(opened.family, self.scoring(""))
        greedy_estimator(opened.family, self.scoring("").greedy, self.scoring("").guidance)

    def scoring(self, task: str | None) -> Scoring:
        """The settings by which the answers of a task are scored."""
        return self.protocol.scoring(task or "", **self.scoring_options)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log p, is_greedy) of each (context, continuation); the first is a bound where the estimator gives one.

        The requests of one document are the answers of one question, and have the same noise.
        """
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, request in enumerate(requests):
            document = (place,) if request.doc_id is None else (request.doc_id, request.repeats)
            groups.setdefault((request.task_name, *document), []).append(place)
        found: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        for task in dict.fromkeys(key[0] for key in groups):
            own = [(key, places) for key, places in groups.items() if key[0] == task]
            questions = [(places, Question(tuple(requests[i].args for i in places), (), 0)) for _, places in own]
            for places, answer in answers(self.checkpoint, questions, self.scoring(task), self.is_greedy):
                for i, nats, written in zip(places, answer.nats, answer.greedy or [False] * len(places), strict=True):
                    found[i] = -nats, written
                    self.cache_hook.add_partial("loglikelihood", requests[i].args, found[i])
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """log p of each text, in windows of the context of which the last reads as much before it as fits."""
        found = []
        for request in requests:
            (text,) = request.args
            estimator = estimator_for(self.checkpoint.family, self.scoring(request.task_name))
            parts = windows(self.checkpoint, text)
            found.append(-sum(one.nats for one in estimates(self.checkpoint, parts, estimator)))
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, found[-1])
        return found

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Texts that follow the contexts, up to the first of the stop strings.

        Masked models write `max_gen_toks` tokens and are cut afterwards. Without do_sample the temperature is 0.
        Requests with the same options are one batch.
        """
        found = [""] * len(requests)
        alike: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(repr(sorted(request.args[1].items(), key=str)), []).append(place)
        for places in alike.values():
            options = dict(requests[places[0]].args[1])
            stops = stop_strings(options.pop("until", None))
            params = self.generation(options)
            for first in range(0, len(places), 16):
                part = places[first : first + 16]
                prompts = [self.prompt_of(requests[i].args[0], params["length"]) for i in part]
                for i, sample in zip(part, remask.sample(self.plain, prompt=prompts, **params), strict=True):
                    found[i] = cut(sample.text, stops)
                    self.cache_hook.add_partial("generate_until", requests[i].args, found[i])
        return found

    def generation(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of `remask.sample`, from the generation_kwargs of a task."""
        length = int(options.get("max_gen_toks", options.get("max_new_tokens", self.max_gen_toks)))
        sampled = bool(options.get("do_sample", False))
        params = {"length": length, "temperature": float(options.get("temperature", 1.0)) if sampled else 0.0}
        params |= {name: options[name] for name in ("top_p", "top_k") if sampled and name in options}
        if self.plain.family.order in ("any", "block") and "sampler" not in self.writing:
            params["sampler"] = "Confidence"
        guidance = 0.0 if self.plain.family.exact else self.scoring(None).guidance
        return {**params, **self.writing, "guidance": guidance, "seed": self.scoring(None).seed}

    def prompt_of(self, context: str, length: int) -> list[int]:
        """The ids of a context, without its first ones where they and the text to write are beyond the context."""
        bos = self.plain.family.bos
        room = self.plain.model.architecture.context - length - len(bos)
        if room < 0:
            most = self.plain.model.architecture.context
            raise RemaskError(f"max_gen_toks is {length}, and the context of the model {most}; give max_gen_toks=N")
        ids = self.checkpoint.tokenizer.encode(context) if context else []
        return [*bos, *ids[max(0, len(ids) - room) :]]

    @property
    def tokenizer_name(self) -> str:
        """By which the harness tells apart the prompts that it keeps."""
        return f"{self.path}:{self.plain.tokenizer.fingerprint}"

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """What identifies the chat template, which is that of `remask chat`: the one of the model's fine-tuning."""
        return f"remask {trained_template(self.plain)}" if chat_template else None

    def apply_chat_template(self, chat_history: Sequence[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, in which special tokens stand by their names."""
        return chat_text(self.plain.tokenizer, chat_history, add_generation_prompt, trained_template(self.plain))

    def get_model_info(self) -> dict[str, Any]:
        """What the results of the harness say of the model."""
        return {"model_family": type(self.plain.family).__name__, "scoring": vars(self.scoring(None))}


def stop_strings(until: Any) -> list[str]:
    """The strings at which a text ends."""
    return [until] if isinstance(until, str) else [one for one in until or [] if one]


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first of the strings."""
    return text[: min([place for stop in stops if (place := text.find(stop)) >= 0], default=len(text))]
