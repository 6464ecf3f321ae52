"""Checkpoints on the Hugging Face Hub: downloaded, or found in its cache."""

import re
from pathlib import Path

from remask.checkpoints.weight_files import OF_TRAINERS
from remask.errors import RemaskError, first_line

HUB = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?::(.+))?")
"""OWNER/NAME, OWNER/NAME@REVISION, OWNER/NAME:FILE, or both."""
BESIDE = ("config.json", "generation_config.json", "adapter_config.json",
          "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model")  # fmt: skip
"""Small files that are downloaded with the weights."""
WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]
PICKLED = ["*.bin", "*.bin.index.json", "*.ckpt", "*.pth", "*.pt"]
"""Weights, the second where there are none of the first."""


def from_hub(spec: str) -> Path:
    """Downloads (or finds in the cache) what a Hub name of the form `HUB` names. RemaskError for anything else."""
    match = HUB.fullmatch(spec)
    if not match or spec.startswith(("/", ".")) or Path(spec).parent.is_dir():
        raise RemaskError(f"no checkpoint at {spec}: there is no such file or folder, and it is no Hub name OWNER/NAME")
    return fetch(*match.groups())


def fetch(repository: str, revision: str | None = None, file: str | None = None) -> Path:
    """The local copy of a Hub repository's weights, or of one file of it, with the small files beside them.

    RemaskError where the Hub has no such repository or file, or cannot be reached and the cache does not hold it.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    spec = repository + (f":{file}" if file else "")
    beside = [*BESIDE, *([f"{Path(file).parent}/{name}" for name in BESIDE] if file else ())]
    wanted = [file] if file else WEIGHTS
    try:
        folder = Path(
            huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=[*wanted, *beside])
        )
        if file is None and not any(folder.glob("*.safetensors")):
            folder = Path(
                huggingface_hub.snapshot_download(
                    repository, revision=revision, allow_patterns=PICKLED, ignore_patterns=[*OF_TRAINERS]
                )
            )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise RemaskError(f"{spec}: the Hub has no such model, or it is private: {first_line(error)}") from None
    except LocalEntryNotFoundError as error:
        raise RemaskError(
            f"{spec} is neither a local file or folder nor in the Hub's cache, and the Hub cannot be reached"
        ) from error
    except Exception as error:  # whatever the connection may raise
        raise RemaskError(f"{spec} cannot be fetched from the Hub: {first_line(error)}") from error
    if file and not (folder / file).is_file():
        raise RemaskError(f"{repository} on the Hub has no file {file}")
    return folder / file if file else folder
