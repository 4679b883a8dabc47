"""The stack machine that a pickle is a program for, with nothing behind its imports and calls.

The machine keeps the stack and the memo as the real one would, but where the real one would import or call
something, it writes the name down. joblib's files are pickles with raw array data between the instructions; the
machine steps over that data as joblib's own reader would.

Two readers that disagree about where an instruction starts are a hole: code could hide where one of them sees
array data. So whatever decides about positions is either known for certain or ends the reading (`incomplete`),
and an incomplete reading is never judged safe.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Table
from dataclasses import dataclass, field

from lightship.models.array_data import array_extent
from lightship.models.array_types import DTYPE, settle
from lightship.models.damage import damaged
from lightship.models.pickle_values import (
    MAX_ITEMS,
    OPAQUE,
    Dictionary,
    Global,
    Instance,
    Persistent,
    Sequence,
)
from lightship.models.stream import Stream

MAX_INSTRUCTIONS = 30_000_000  # about half a minute; the largest vocabularies stay far below
MAX_STACK = 500_000  # values at once on the stack
MAX_MEMO = 8_000_000  # memoised values
MAX_TEXT = 200  # bytes of a text that is remembered; names are shorter
MAX_KEPT_TEXT = 32 << 20  # bytes of memoised text, estimated; later texts are forgotten
MAX_KEPT_VALUES = 64 << 20  # bytes of remembered tuples, dicts and objects, estimated
MAX_GLOBALS = 10_000  # different imported names

ARRAY_WRAPPER = Global("joblib.numpy_pickle", "NumpyArrayWrapper")
TAMPERS = "it calls or changes what it has made itself"
ODD_TYPE = "it describes a numpy.dtype that contradicts itself or is of an unusual form"
_STOP = ord(".")

# Old protocols make instances through these: the class is the first argument.
_CONSTRUCTORS = frozenset(
    {"copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__"}
)
_DICTIONARIES = frozenset({"collections.OrderedDict", "builtins.dict", "__builtin__.dict"})
# Calls whose results are numbers or bytes; a vocabulary may hold a million of them.
_PLAIN = frozenset({"scalar", "encode"})
# Classes whose instances decide about positions: never forgotten silently.
_POSITIONING = frozenset({"NumpyArrayWrapper", "dtype"})


class IncompleteError(Exception):
    """The reading ends before the pickle does, for the given reason."""


@dataclass
class Reading:
    """What a pickle told.

    Attributes:
        value: The object that loading it would give.
        globals: Every name that it imports, in order of appearance.
        oddities: What no honest pickle does, such as calling the result of a call, in words.
        sklearn_versions: Versions that scikit-learn's estimators note in their state, with how often.
        storages: What identifies data outside of the pickle, such as PyTorch's tensor storages.
        arrays: Bytes of raw array data between the instructions, by dtype.
        incomplete: Why the reading stopped early; None when it came to the end.
    """

    value: object = OPAQUE
    globals: dict[Global, None] = field(default_factory=dict)
    oddities: set[str] = field(default_factory=set)
    sklearn_versions: dict[str, int] = field(default_factory=dict)
    storages: list[tuple[object, ...]] = field(default_factory=list)
    arrays: dict[str, int] = field(default_factory=dict)
    incomplete: str | None = None


class Machine:
    """Reads one pickle from a stream. `table` has the instruction for every byte."""

    def __init__(self, stream: Stream, reading: Reading, table: Table[Instruction | None], *, joblib: bool) -> None:
        self.stream = stream
        self.reading = reading
        self.table = table
        self.joblib = joblib
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: list[object] = []
        self.sparse_memo: dict[int, object] = {}
        self.frame_end = 0
        self.kept_text = 0
        self.kept_values = 0
        self.steps = MAX_INSTRUCTIONS

    def run(self) -> object:
        """Follow the instructions to the last one; the value that it leaves."""
        next_byte, table, stack, marks = self.stream.byte, self.table, self.stack, self.marks
        while True:
            code = next_byte()
            if code == _STOP:
                return stack.pop()
            instruction = table[code]
            if instruction is None:
                raise damaged(
                    self.stream.path, f"byte {self.stream.position - 1} is no instruction of a pickle ({code:#04x})"
                )
            instruction(self)
            self.steps -= 1
            if self.steps < 0:
                raise IncompleteError(f"it has more than {MAX_INSTRUCTIONS:,} instructions")
            if len(stack) + len(marks) > MAX_STACK:
                raise IncompleteError(f"it puts more than {MAX_STACK:,} values on the stack at once")

    # Values

    def keep(self, size: int) -> bool:
        """Whether there is room to remember a value of about `size` bytes; counts it."""
        if self.kept_values > MAX_KEPT_VALUES:
            return False
        self.kept_values += size
        return True

    def text(self, size: int) -> None:
        if size > MAX_TEXT:
            self.data(size)
        else:
            self.stack.append(self.stream.read(size).decode("utf-8", "replace"))

    def data(self, size: int) -> None:
        if size < 0:
            raise damaged(self.stream.path, f"data at byte {self.stream.position} has a negative length")
        self.stream.skip(size)
        self.stack.append(OPAQUE)

    def popped_mark(self) -> list[object]:
        """The values above the last mark, which are taken from the stack."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    # Containers

    def new_tuple(self, items: list[object]) -> None:
        short = len(items) <= MAX_ITEMS and self.keep(56 + 8 * len(items))
        self.stack.append(tuple(items) if short else OPAQUE)

    def new_sequence(self, items: list[object]) -> None:
        fresh = Sequence() if self.keep(120) else OPAQUE
        self.extend(fresh, items)
        self.stack.append(fresh)

    def new_dictionary(self, items: list[object]) -> None:
        fresh = Dictionary() if self.keep(300) else OPAQUE
        self.set_items(fresh, items)
        self.stack.append(fresh)

    def extend(self, target: object, items: list[object]) -> None:
        if isinstance(target, Global):
            self.reading.oddities.add(TAMPERS)
        if not isinstance(target, Sequence):
            return
        room = MAX_ITEMS - len(target.items)
        taken = items[:room] if self.keep(8 * len(items)) else []
        target.items.extend(taken)
        target.partial |= len(taken) < len(items)

    def set_items(self, target: object, items: list[object]) -> None:
        if len(items) % 2:
            raise damaged(self.stream.path, f"a dictionary at byte {self.stream.position} has a key without a value")
        if isinstance(target, Global):
            self.reading.oddities.add(TAMPERS)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if key == "_sklearn_version" and isinstance(value, str):
                self._note_version(value)
            if not isinstance(target, Dictionary):
                continue
            known = isinstance(key, str) and key in target.items
            if isinstance(key, str) and (known or (len(target.items) < MAX_ITEMS and self.keep(150 + len(key)))):
                target.items[key] = value
            else:
                target.partial = True

    def _note_version(self, version: str) -> None:
        versions = self.reading.sklearn_versions
        if version in versions or len(versions) < MAX_ITEMS:
            versions[version] = versions.get(version, 0) + 1

    # Imports and calls

    def import_name(self, module: object, name: object) -> None:
        found = Global("?", "?")  # computed, or longer than any name
        if isinstance(module, str) and isinstance(name, str):
            found = Global(module, name)
        seen = self.reading.globals
        if len(seen) >= MAX_GLOBALS and found not in seen:
            raise IncompleteError(f"it imports more than {MAX_GLOBALS:,} different names")
        seen[found] = None
        self.stack.append(found)

    def call(self, maker: object, arguments: object) -> None:
        if isinstance(maker, Global) and str(maker) in _CONSTRUCTORS and isinstance(arguments, tuple) and arguments:
            maker, arguments = arguments[0], OPAQUE
        if not isinstance(maker, Global):
            self.reading.oddities.add(TAMPERS)
            self.stack.append(OPAQUE)
        elif maker.name in _PLAIN:
            self.stack.append(OPAQUE)
        elif str(maker) in _DICTIONARIES and arguments == ():
            self.new_dictionary([])
        elif self.keep(150):
            self.stack.append(Instance(maker, arguments))
        elif maker.name in _POSITIONING:
            raise IncompleteError("it has too many values to remember all of them")
        else:
            self.stack.append(OPAQUE)

    def build(self) -> None:
        """Put a state into an object. For joblib's array wrappers, their array's data comes next."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Global):
            self.reading.oddities.add(TAMPERS)
        if not isinstance(target, Instance):
            return
        if isinstance(state, Dictionary):
            self._update(target, state)
        else:
            target.extra = state if target.extra is None else OPAQUE
        if target.maker == DTYPE and not settle(target):
            self.reading.oddities.add(ODD_TYPE)
        if self.joblib and str(target.maker).endswith("ArrayWrapper"):
            self._step_over_array(target)

    def _update(self, target: Instance, state: Dictionary) -> None:
        """An object takes a copy of the entries: what happens to the dict later is not its concern."""
        known = target.state or Dictionary()
        if self.keep(300 + 100 * len(state.items)) and len(known.items) <= MAX_ITEMS:
            target.state = Dictionary(known.items | state.items, known.partial or state.partial)
        else:
            known.partial = True
            target.state = known

    def _step_over_array(self, wrapper: Instance) -> None:
        here = self.stream.position
        if wrapper.maker != ARRAY_WRAPPER:
            raise IncompleteError(f"it was saved by a very old joblib ({wrapper.maker})")
        if here < self.frame_end:
            raise damaged(self.stream.path, f"array data starts inside a frame, at byte {here}")
        extent = array_extent(wrapper)
        if extent is None:
            raise IncompleteError(f"the size of the array data at byte {here} cannot be told")
        if extent.pickled:
            self._step_over_pickle()
        else:
            if extent.padded:
                self.stream.skip(self.stream.byte())
            self.stream.skip(extent.size)
            arrays = self.reading.arrays
            arrays[extent.dtype] = arrays.get(extent.dtype, 0) + extent.size
        self.stack[-1] = Instance(Global("numpy", "ndarray"), extent.shape) if self.keep(400) else OPAQUE

    def _step_over_pickle(self) -> None:
        """An array of Python objects lies in a joblib file as a whole pickle of its own."""
        nested = Machine(self.stream, self.reading, self.table, joblib=False)
        nested.steps, nested.kept_text, nested.kept_values = self.steps, self.kept_text, self.kept_values
        nested.run()
        self.steps, self.kept_text, self.kept_values = nested.steps, nested.kept_text, nested.kept_values

    def persist(self, identity: object) -> None:
        if not self.keep(200):
            raise IncompleteError("it has too many values to remember all of them")
        if isinstance(identity, tuple):
            self.reading.storages.append(identity)
        self.stack.append(Persistent(identity))

    # The memo

    def put(self, index: int) -> None:
        value = self.stack[-1]
        if isinstance(value, str):
            if self.kept_text > MAX_KEPT_TEXT:
                value = OPAQUE
            else:
                self.kept_text += 60 + len(value)
        memo, sparse = self.memo, self.sparse_memo
        if 0 <= index < len(memo):
            memo[index] = value
        elif index == len(memo):
            if len(memo) >= MAX_MEMO:
                raise IncompleteError(f"it remembers more than {MAX_MEMO:,} values")
            memo.append(value)
            while sparse and len(memo) in sparse:
                memo.append(sparse.pop(len(memo)))
        else:
            if index < 0 or len(sparse) >= MAX_STACK:
                raise IncompleteError("it numbers its values in no order")
            sparse[index] = value

    def get(self, index: int) -> None:
        if 0 <= index < len(self.memo):
            self.stack.append(self.memo[index])
        elif index in self.sparse_memo:
            self.stack.append(self.sparse_memo[index])
        else:
            raise damaged(
                self.stream.path, f"byte {self.stream.position} refers to a value {index} that is not there"
            )


Instruction = Callable[[Machine], None]
