"""Which file a tokenizer is read from, and what is named instead where there is none."""

import json
from pathlib import Path

from remask.errors import RemaskError, first_line
from remask.lookalikes import CONVERTED, lookalike

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
"""Beside it: names of special tokens, as `transformers` writes them."""
_SPECIAL = "special_tokens_map.json"
"""The same in older repositories."""


def tokenizer_file(spec: str | Path) -> Path:
    """The `tokenizer.json` that a path, a folder, or `hub:OWNER/NAME` names.

    RemaskError where there is none; it says what is there instead and how a `tokenizer.json` is made from it.
    """
    path = Path(spec)
    if str(spec).startswith("hub:"):
        return _from_hub(str(spec))
    if path.is_dir():
        if (path / FILE).is_file():
            return tokenizer_file(path / FILE)
        others = [name for name in ("tokenizer.model", "vocab.json", "vocab.txt") if (path / name).is_file()]
        if others:
            raise RemaskError(f"{path} has {others[0]}, and a {FILE} is wanted: {CONVERTED}")
        inside = f": it is in {path / 'latest'}" if (path / "latest" / FILE).is_file() else ""
        raise RemaskError(f"the folder {path} has no {FILE}{inside}")
    if not path.is_file():
        hub = f" (on the Hub? hub:{spec})" if str(spec).count("/") == 1 else ""
        raise RemaskError(
            f"no tokenizer at {str(spec)!r}{hub}. Accepted: bpe, bytes, a {FILE}, a folder with one, or hub:OWNER/NAME"
        )
    if what := lookalike(path):
        raise RemaskError(f"{path} is {what}")
    return path


def _from_hub(spec: str) -> Path:
    """The `tokenizer.json` of a repository of the Hub, downloaded or found in the cache, and its settings with it."""
    import huggingface_hub

    try:
        wanted = [FILE, CONFIG, _SPECIAL]
        folder = huggingface_hub.snapshot_download(spec.removeprefix("hub:"), allow_patterns=wanted)
    except Exception as error:  # whatever the name or the connection may raise
        raise RemaskError(f"{spec} cannot be fetched from the Hub: {first_line(error)}") from error
    return tokenizer_file(folder)


def declared_end(folder: Path) -> str | None:
    """Name of the end-of-text token (`eos_token`) in the files that lie beside a `tokenizer.json`; None without."""
    for name in (CONFIG, _SPECIAL):
        try:
            settings = json.loads((folder / name).read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            continue
        token = settings.get("eos_token") if isinstance(settings, dict) else None
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            return token
    return None
