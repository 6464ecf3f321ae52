"""What is to be scored."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from remask.seeds import mix_seeds


@dataclass(frozen=True)
class Request:
    """Tokens whose probability is wanted, given those of a prompt."""

    target: Sequence[int]
    """Ids that are scored."""
    prompt: Sequence[int] = ()
    """Ids that stand before them and are given."""
    bytes: int = 0
    """UTF-8 bytes of the target's text; 0 where unknown."""
    noise_key: str | int | None = None
    """Requests with the same key get the same noise, such as the answers of one question, whose differences then have
    less variance. By default the noise depends on prompt and target."""
    id: Any = None
    """What the estimate is returned with; by default the request's place in the list."""
    characters: int = 0
    """Characters of the target's text; 0 where unknown."""

    @cached_property
    def length(self) -> int:
        """Tokens of prompt and target together."""
        return len(self.prompt) + len(self.target)

    def noise_seed(self, seed: int) -> int:
        """The seed of this request's noise: the same in every list, at every place, on every machine."""
        content = (tuple(map(int, self.prompt)), tuple(map(int, self.target)))
        key = repr(content if self.noise_key is None else self.noise_key)
        return mix_seeds(seed, int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()))
