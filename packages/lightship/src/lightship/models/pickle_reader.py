"""Reading a pickle as what it is, a program for a small stack machine, without running any of it."""

from __future__ import annotations

from lightship.models.damage import damaged
from lightship.models.pickle_instructions import TABLE
from lightship.models.pickle_machine import IncompleteError, Machine, Reading
from lightship.models.stream import Stream


def read_pickle(stream: Stream, *, joblib: bool = False) -> Reading:
    """What one pickle tells, read up to its end instruction.

    Args:
        stream: At the pickle's first byte.
        joblib: Whether it will be loaded by joblib, for which array data lies between the instructions.

    Raises:
        ProjectError: It is cut off or breaks the rules of pickles.
    """
    reading = Reading()
    try:
        reading.value = Machine(stream, reading, TABLE, joblib=joblib).run()
    except IncompleteError as stop:
        reading.incomplete = str(stop)
    except IndexError:
        raise damaged(stream.path, f"an instruction before byte {stream.position} has no value to work on") from None
    return reading
