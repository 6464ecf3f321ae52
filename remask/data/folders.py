"""Which files of a folder are a corpus: sorted, with what is left out and why.

A folder is read as people have it: a tree of text files, the clone of a data set of the Hub (with splits and a card),
or what `datasets` wrote with `save_to_disk`.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from remask.data.kinds import SUFFIXES, TEXT, Kind, kind_in_folder, looks_binary, obstacle, plain_suffix
from remask.data.reading import Omissions
from remask.data.streams import head
from remask.errors import RemaskError

TRAIN = {"train", "training"}
HELD_OUT = {"test", "testing", "eval", "evaluation", "validation", "valid", "val", "dev"}
"""Names of splits, as the Hub knows them by the names of files and folders."""
CARDS = re.compile(r"readme(\.\w+)?|licen[sc]e(\.\w+)?|dataset_infos?\.json|dataset_dict\.json|state\.json", re.I)
"""Files that lie beside the data of a data set and tell about it."""
PREPARED = ("data.json", "train.ids")
"""Files of a folder that `remask prepare` wrote."""
SAVED = ("state.json", "dataset_info.json")
"""Files of a folder that `save_to_disk` of `datasets` wrote."""

Split = Literal["train", "held out"]


@dataclass(frozen=True)
class Item:
    """A file of a corpus, or a folder of `save_to_disk`."""

    path: Path
    name: str
    """The path inside the corpus."""
    kind: Kind
    split: Split | None = None


def folder_items(folder: Path, field: str, omissions: Omissions) -> list[Item]:
    """What is read of a folder, in the order of the paths. Notes what is not.

    Raises:
        RemaskError: the folder was written by `remask prepare`, or a file of data is only a pointer to it.
    """
    if is_prepared(folder):
        raise RemaskError(
            f"{str(folder)!r} is prepared already: train on it with `remask train --data {folder}`, or name the text "
            "that it was made from"
        )
    if has_files(folder, SAVED):
        return [Item(folder, folder.name, "saved")]
    items = [_item(path, folder, field, omissions) for path in _walk(folder, omissions)]
    return _without_cards(_training_split([item for item in items if item], omissions), omissions)


def is_prepared(folder: Path) -> bool:
    """Whether `remask prepare` wrote a folder."""
    return has_files(folder, PREPARED)


def has_files(folder: Path, names: Iterable[str]) -> bool:
    """Whether a folder holds all of these files."""
    return all((folder / name).is_file() for name in names)


def _walk(folder: Path, omissions: Omissions) -> list[Path]:
    """All files and folders of `save_to_disk` that are not hidden, sorted by their path."""
    paths: list[Path] = []
    for parent, folders, names in os.walk(folder):
        for hidden in sorted(name for name in [*folders, *names] if name.startswith(".")):
            omissions.add("hidden files and folders", Path(parent, hidden).relative_to(folder).as_posix())
        inside = [Path(parent, name) for name in folders if not name.startswith(".")]
        for path in filter(is_prepared, inside):
            omissions.add("folders written by `remask prepare`", path.relative_to(folder).as_posix())
        saved = [path for path in inside if has_files(path, SAVED)]
        folders[:] = [path.name for path in inside if path not in saved and not is_prepared(path)]
        paths += saved
        paths += [Path(parent, name) for name in names if not name.startswith(".") and Path(parent, name).is_file()]
    return sorted(paths, key=lambda path: path.relative_to(folder).as_posix())


def _item(path: Path, folder: Path, field: str, omissions: Omissions) -> Item | None:
    """A file as an item of the corpus, or None with a note where it is none."""
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return Item(path, name, "saved", split_of(name, "saved"))
    if not path.stat().st_size:
        omissions.add("empty files", name)
        return None
    is_data = plain_suffix(path) in TEXT | set(SUFFIXES)
    try:
        start = head(path)
    except RemaskError:
        if is_data:
            raise
        omissions.add("files that cannot be decompressed", name)
        return None
    what = kind_in_folder(path, start, field)
    if reason := obstacle(start, what):
        if "Git LFS" in reason and is_data:
            raise RemaskError(f"{path} is {reason}")
        omissions.add("files that are no text", f"{name} ({reason})")
        return None
    if what not in ("parquet", "arrow") and looks_binary(start):
        omissions.add("files that look binary", name)
        return None
    return Item(path, name, what, split_of(name, what))


def split_of(name: str, kind: Kind) -> Split | None:
    """The split that the path of a file names; None where it names none, or two.

    A file of records is of a split when that is a word of its name (`c4-train.00000.json.gz`). A text file is held
    out when its whole name is that of a split but for numbers (`valid.txt`), and for training when its name begins so
    (`train-00.txt`, `train_clean.txt`). Otherwise the innermost folder decides that has the name of a split.
    """
    path = PurePosixPath(name.lower())
    if kind == "text" and plain_suffix(Path(name)) not in TEXT:
        return None
    words = re.findall(r"[a-z]+", path.name.partition(".")[0] if kind == "text" else path.name)
    if kind == "text" and len(set(words) - {"of"}) > 1:
        words = [word for word in words[:1] if word in TRAIN]
    splits: list[Split] = [split for split, names in _SPLITS.items() if names.intersection(words)]
    if splits:
        return splits[0] if len(splits) == 1 else None
    for parent in map(str, path.parts[-2::-1]):
        for split, names in _SPLITS.items():
            if parent in names:
                return split
    return None


_SPLITS: dict[Split, set[str]] = {"train": TRAIN, "held out": HELD_OUT}


def _training_split(items: list[Item], omissions: Omissions) -> list[Item]:
    """The items without those of validation and test splits, where there is a training split beside them; `split` is
    kept only then."""
    if not set(_SPLITS) <= {item.split for item in items}:
        return [replace(item, split=None) for item in items]
    for item in items:
        if item.split == "held out":
            omissions.add("files of validation or test splits (name one with --validation to use it)", item.name)
    return [item for item in items if item.split != "held out"]


def _without_cards(items: list[Item], omissions: Omissions) -> list[Item]:
    """The items without the card of the data set, where the folder is one: by splits, or for most of its bytes."""
    size = {item.name: item.path.stat().st_size for item in items if item.kind != "saved"}
    records = sum(size.get(item.name, 1 << 20) for item in items if item.kind != "text")
    if 2 * records <= sum(size.values()) and not any(item.split for item in items):
        return items
    kept = []
    for item in items:
        if item.kind == "text" and CARDS.fullmatch(item.path.name):
            omissions.add("files that describe a data set", item.name)
        else:
            kept.append(item)
    return kept
