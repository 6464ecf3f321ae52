"""The one way to make a seed from several numbers."""


def mix_seeds(*numbers: int) -> int:
    """A seed from several integers (SplitMix64, so that neighbours are unrelated; torch uses 32 bits of it)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & (2**64 - 1)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state ^= state >> 31
    return state >> 1
