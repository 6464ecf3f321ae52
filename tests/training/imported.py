"""What a process imports of which `killing` makes copies: all that a command needs that trains, writes or scores."""

import grain  # noqa: F401
import jsonargparse  # noqa: F401
import tensorboard.summary.writer.event_file_writer  # noqa: F401
import tokenizers  # noqa: F401

from remask.training.engine import import_lightning

import_lightning()  # first: without what Lightning imports and remask does not use

import remask.cli  # noqa: E402
import remask.training.after_step  # noqa: E402
import remask.training.run  # noqa: E402, F401
