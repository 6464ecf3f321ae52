"""Which files of a folder hold its weights, and what others lie there in their place."""

import json
from fnmatch import fnmatch
from pathlib import Path
from zipfile import is_zipfile

from remask.errors import RemaskError
from remask.lookalikes import beginning, lookalike

PREFERRED = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Names that `transformers` gives the weights, in the order in which it looks for them."""
PICKLES = (".bin", ".ckpt", ".pth", ".pt")
OF_TRAINERS = ("training_args.*", "optimizer*", "*optim_states*", "scheduler*", "scaler*", "rng_state*",
               "random_states*", "sampler*", "dl_state*", "custom_checkpoint_*", "loss_scale*")  # fmt: skip
"""Files that trainers leave beside the weights."""
ADAPTER, ADAPTER_CONFIG = "adapter_model.*", "adapter_config.json"
NOT_READ = {
    ".gguf": "a GGUF of llama.cpp",
    ".ggml": "a GGML of llama.cpp",
    ".h5": "TensorFlow's weights",
    ".msgpack": "Flax's weights",
    ".onnx": "an ONNX graph",
    ".npz": "MLX's or NumPy's weights",
    ".distcp": "a sharded checkpoint of torch.distributed (join it with `python -m "
    "torch.distributed.checkpoint.format_utils dcp_to_torch DIR FILE.pt`)",
    ".nemo": "an archive of NeMo",
}
"""Suffixes of weights in forms that remask does not read."""


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a file or folder.

    In a folder: those of the names that `transformers` gives them, else those of an index, else the only safetensors
    file, else the only PyTorch file. RemaskError where none is there or one has to be chosen.
    """
    if path.is_file():
        return shards(path) if path.name.endswith(".index.json") else [path]
    for name in PREFERRED:
        if (path / name).is_file():
            return shards(path / name) if name.endswith(".index.json") else [path / name]
    for pattern in ("*.safetensors.index.json", "*.bin.index.json"):
        indices = sorted(path.glob(pattern))
        if indices:
            return shards(indices[0])
    for suffixes in ((".safetensors",), *((suffix,) for suffix in PICKLES)):
        files = sorted(file for file in path.iterdir() if file.suffix in suffixes and may_be_weights(file))
        if len(files) == 1:
            return files
        if files:
            names = ", ".join(f.name for f in files[:6]) + (", ..." if len(files) > 6 else "")
            raise RemaskError(f"{path} holds several weight files and no index; name one of {names}")
    raise RemaskError(absence(path))


def may_be_weights(file: Path) -> bool:
    """Whether a file's name is none of those that trainers give their own state, or adapters their weights."""
    return not any(fnmatch(file.name, pattern) for pattern in (*OF_TRAINERS, ADAPTER))


def shards(index: Path) -> list[Path]:
    """The files that an index names, all of them there, in its own folder."""
    try:
        names = list(dict.fromkeys(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RemaskError(f"{index} is {lookalike(index) or f'damaged: {error}'}") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise RemaskError(f"{index} names a shard outside its folder: {name!r}")
        if not (index.parent / name).is_file():
            raise RemaskError(f"{index} names {name}, which is missing")
    return [index.parent / name for name in names]


def absence(folder: Path) -> str:
    """Why a folder has no weights that can be read, from what it does have."""
    if (folder / ADAPTER_CONFIG).is_file() or any(folder.glob(ADAPTER)):
        return adapter(folder, folder)
    for file in sorted(folder.iterdir()):
        if what := NOT_READ.get(file.suffix):
            return (
                f"no checkpoint in {folder}: {file.name} is {what}, which remask does not read; take the .safetensors, "
                ".bin, .ckpt, .pth or .pt that it was made from"
            )
    return (
        f"no checkpoint in {folder}: found neither latest/config.json nor a .safetensors, .bin, .ckpt, .pth or .pt file"
    )


def adapter(spec: str | Path, folder: Path) -> str:
    """What to do with a low-rank adapter (PEFT) in place of a whole model."""
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_text()).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError):
        base = None
    of = f" of {base}" if isinstance(base, str) else ""
    return (
        f"{spec} is an adapter (PEFT, such as LoRA){of} and no whole model: merge it into its base with "
        "peft's merge_and_unload(), save that with save_pretrained(), and load the result"
    )


def refuse_lookalike(file: Path) -> None:
    """RemaskError for a file that stands in place of weights and is something else, saying what."""
    if what := lookalike(file):
        raise RemaskError(f"{file} is {what}")
    if what := NOT_READ.get(file.suffix):
        raise RemaskError(f"{file} is {what}, which remask does not read; it reads safetensors and PyTorch files")
    if file.suffix == ".safetensors" and is_zipfile(file):
        raise RemaskError(f"{file} is a PyTorch file and no safetensors: rename it to end with .bin")
    if (text := beginning(file)) is not None:
        raise RemaskError(f"{file} holds text and no weights; it begins {text!r}. Download it again")
