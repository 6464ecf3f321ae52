"""Number formats of a network, by their names. Importing this is quick, so that a command's help is too."""

from typing import Literal

Precision = Literal["stored", "auto", "bf16", "fp32", "int8"]
"""stored: as in the file; auto: what is fast on the device; the others by name. See `remask.load`."""
