"""What the other parts have to know of a tokenizer: how many ids there are, and which of them are special."""

from dataclasses import dataclass

from remask.errors import RemaskError


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a tokenizer, as a family and its network see them."""

    size: int
    """Number of ids, the mask among them: rows of the input embedding."""
    mask: int | None = None
    """The id of the mask, which is never predicted. None for a vocabulary without one."""
    end: int | None = None
    """The id of the end-of-text token. It also begins a text that is read left to right where there is no `start`."""
    start: int | None = None
    """The id that begins a text, in vocabularies that have one of its own."""
    end_of_turn: int | None = None
    """The id that ends a turn of a conversation."""

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or not 1 <= self.size < 2**31:
            raise RemaskError(f"a vocabulary has {self.size!r} ids; it must be at least 1, and below 2^31")
        for what in ("mask", "start", "end", "end_of_turn"):
            given = getattr(self, what)
            if given is not None and not (isinstance(given, int) and 0 <= given < self.size):
                raise RemaskError(f"the {what} id {given!r} is not among the {self.size} ids")

    @property
    def predicted(self) -> int:
        """V, rows of the output head: one less than `size` where the mask is the last id."""
        return self.size - 1 if self.mask == self.size - 1 else self.size
