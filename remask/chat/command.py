"""`remask chat RUN`: a conversation with a model, in a terminal or through pipes.

remask chat runs/chat --system "You answer in one sentence."
printf 'One?\nTwo?\n' | remask chat runs/chat --temperature 0
"""

from pathlib import Path

from remask.checkpoints.overrides import Overrides
from remask.checkpoints.precision import Precision
from remask.data.chat import TemplateName
from remask.sampling.params import SamplingParams


def chat(
    run: str,
    system: str = "",
    template: TemplateName | None = None,
    preset: str | None = None,
    tokenizer: Path | None = None,
    end: str | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    pack: bool = False,
    compile: bool = False,
    *,
    params: SamplingParams,
) -> None:
    """Talks with a model that was fine-tuned for it: every line is a message, which is answered while you watch.

    /help lists the commands: /undo, /retry, /reset, /set NAME VALUE, /save FILE. Ctrl-C stops an answer, Ctrl-D ends.
    Without a terminal, answers are printed as plain lines on standard output and all else on standard error.

    Args:
        run: A run directory, a published folder, or other people's weights (see `remask convert`).
        system: The system message, which tells the model how to answer; it is always read.
        template: chat puts the tokenizer's special tokens around each turn; vicuna is FastChat's plain-text template,
            by which SMDM was fine-tuned; none puts nothing between the texts. By default the one by which
            `remask train` fine-tuned the model, else chat.
        preset: Published settings, which options overrule, as in `remask sample`.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        end: Token that ends a text, by its name or its id, where the checkpoint does not say.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the network, as in `remask sample`.
        pack: Lay the weights out for a CPU once, as in `remask sample`.
        compile: Compile the network, as in `remask sample`.
        params: How answers are written. Where the context leaves less room than --length, they are shorter.
    """
    import remask
    from remask.chat.dialogue import Dialogue
    from remask.chat.display import Display
    from remask.chat.session import Session, talk
    from remask.conversation import trained_template

    checkpoint = remask.load(
        run,
        device=device,
        precision=precision,
        pack=pack,
        compile=compile,
        tokenizer=tokenizer,
        overrides=Overrides(end=end),
    )
    dialogue = Dialogue(checkpoint, template or trained_template(checkpoint), system, params)
    talk(Session(dialogue, Display()))
