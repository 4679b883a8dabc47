"""What each instruction of a pickle does to the stack, for every protocol from 0 to 5.

Names and codes are those of Python's own `pickletools`.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from lightship.models.damage import damaged
from lightship.models.pickle_machine import MAX_TEXT, IncompleteError, Instruction, Machine
from lightship.models.pickle_values import MAX_ITEMS, OPAQUE
from lightship.models.stream import I32, U16, U32, U64

HIGHEST_PROTOCOL = 5
_MAX_NUMBER = 30  # digits or bytes of a number that is remembered

_NAME = re.compile(rb"[\x21-\x7e]{1,200}")


def _on_mark(use: Callable[[Machine, list[object]], None]) -> Instruction:
    """An instruction that takes everything above the last mark."""
    return lambda machine: use(machine, machine.popped_mark())


def _constant(value: object) -> Instruction:
    return lambda machine: machine.stack.append(value)


def _read(take: Callable[[Machine], object]) -> Instruction:
    """An instruction that puts what it reads from the stream on the stack."""
    return lambda machine: machine.stack.append(take(machine))


# Framing


def _proto(machine: Machine) -> None:
    if (protocol := machine.stream.byte()) > HIGHEST_PROTOCOL:
        raise damaged(machine.stream.path, f"it claims the pickle protocol {protocol}, which does not exist")


def _frame(machine: Machine) -> None:
    size = machine.stream.number(U64)
    remaining = machine.stream.remaining
    if machine.joblib and machine.stream.position - 9 < machine.frame_end:
        raise damaged(machine.stream.path, f"a frame starts inside another one, at byte {machine.stream.position}")
    if remaining is not None and size > remaining:
        raise damaged(machine.stream.path, f"it ends before its frame of {size} bytes does")
    machine.frame_end = machine.stream.position + size


# Numbers and text


def _decimal(machine: Machine) -> int:
    line = machine.stream.line(_MAX_NUMBER)
    try:
        return int(line or b"")
    except ValueError:
        raise damaged(machine.stream.path, f"{line!r} at byte {machine.stream.position} is no number") from None


def _integer_line(machine: Machine) -> object:
    line = machine.stream.line(_MAX_NUMBER)
    if line in (b"00", b"01"):
        return line == b"01"
    if line is None:
        return OPAQUE
    try:
        return int(line.removesuffix(b"L"))
    except ValueError:
        raise damaged(machine.stream.path, f"{line!r} at byte {machine.stream.position} is no number") from None


def _float_line(machine: Machine) -> object:
    machine.stream.line(MAX_TEXT)
    return OPAQUE


def _long(machine: Machine, size: int) -> None:
    if 0 <= size <= _MAX_NUMBER:
        machine.stack.append(int.from_bytes(machine.stream.read(size), "little", signed=True))
    else:
        machine.data(size)


def _quoted_line(machine: Machine) -> object:
    line = machine.stream.line(MAX_TEXT)
    if line is None:
        return OPAQUE
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise damaged(machine.stream.path, f"text at byte {machine.stream.position} has no quotes")
    try:
        plain, _ = codecs.escape_decode(line[1:-1])
    except ValueError:
        return OPAQUE
    return plain.decode("ascii", "replace")


def _unicode_line(machine: Machine) -> object:
    line = machine.stream.line(MAX_TEXT)
    try:
        return OPAQUE if line is None else line.decode("raw_unicode_escape")
    except UnicodeDecodeError:
        return OPAQUE


def _name_line(machine: Machine) -> object:
    """A line that names a module or something in it; None (an unknown name) when it cannot be a plain name."""
    line = machine.stream.line(MAX_TEXT)
    return line.decode("ascii") if line and _NAME.fullmatch(line) else None


# The stack


def _pop(machine: Machine) -> None:
    """POP takes a mark when nothing lies above it, else a value."""
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.stack.pop()


def _append(machine: Machine) -> None:
    value = machine.stack.pop()
    machine.extend(machine.stack[-1], [value])


def _append_all(machine: Machine, items: list[object]) -> None:
    machine.extend(machine.stack[-1], items)


def _set_item(machine: Machine) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items(machine.stack[-1], [key, value])


def _set_all(machine: Machine, items: list[object]) -> None:
    machine.set_items(machine.stack[-1], items)


def _tuple_of(count: int) -> Instruction:
    def instruction(machine: Machine) -> None:
        items = [machine.stack.pop() for _ in range(count)]
        machine.new_tuple(items[::-1])

    return instruction


# Imports and calls


def _global(machine: Machine) -> None:
    module = _name_line(machine)
    machine.import_name(module, _name_line(machine))


def _stack_global(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.import_name(module, name)


def _extension(machine: Machine, code: int) -> None:
    machine.import_name("copyreg", f"extension {code}")


def _inst(machine: Machine) -> None:
    module, name = _name_line(machine), _name_line(machine)
    arguments = tuple(machine.popped_mark()[:MAX_ITEMS])
    machine.import_name(module, name)
    machine.call(machine.stack.pop(), arguments)


def _obj(machine: Machine, items: list[object]) -> None:
    machine.call(items[0], tuple(items[1:MAX_ITEMS]))


def _reduce(machine: Machine) -> None:
    arguments, maker = machine.stack.pop(), machine.stack.pop()
    machine.call(maker, arguments)


def _newobj_ex(machine: Machine) -> None:
    _, arguments, maker = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    machine.call(maker, arguments)


def _buffer(machine: Machine) -> None:
    raise IncompleteError("it keeps part of its data in another place (out-of-band buffers)")


_BY_CODE: dict[str, Instruction] = {
    "\x80": _proto,
    "\x95": _frame,
    # Numbers and constants
    "N": _constant(None),
    "\x88": _constant(True),
    "\x89": _constant(False),
    "I": _read(_integer_line),
    "L": _read(_integer_line),
    "F": _read(_float_line),
    "G": lambda machine: machine.data(8),
    "J": _read(lambda machine: machine.stream.number(I32)),
    "K": _read(lambda machine: machine.stream.byte()),
    "M": _read(lambda machine: machine.stream.number(U16)),
    "\x8a": lambda machine: _long(machine, machine.stream.byte()),
    "\x8b": lambda machine: _long(machine, machine.stream.number(I32)),
    # Text and bytes
    "S": _read(_quoted_line),
    "V": _read(_unicode_line),
    "T": lambda machine: machine.text(machine.stream.number(U32)),
    "U": lambda machine: machine.text(machine.stream.byte()),
    "X": lambda machine: machine.text(machine.stream.number(U32)),
    "\x8c": lambda machine: machine.text(machine.stream.byte()),
    "\x8d": lambda machine: machine.text(machine.stream.number(U64)),
    "B": lambda machine: machine.data(machine.stream.number(U32)),
    "C": lambda machine: machine.data(machine.stream.byte()),
    "\x8e": lambda machine: machine.data(machine.stream.number(U64)),
    "\x96": lambda machine: machine.data(machine.stream.number(U64)),
    "\x97": _buffer,
    "\x98": _buffer,
    # Containers
    "(": lambda machine: machine.marks.append(len(machine.stack)),
    ")": _constant(()),
    "t": _on_mark(Machine.new_tuple),
    "\x85": _tuple_of(1),
    "\x86": _tuple_of(2),
    "\x87": _tuple_of(3),
    "]": lambda machine: machine.new_sequence([]),
    "\x8f": lambda machine: machine.new_sequence([]),
    "l": _on_mark(Machine.new_sequence),
    "\x91": _on_mark(Machine.new_sequence),
    "a": _append,
    "e": _on_mark(_append_all),
    "\x90": _on_mark(_append_all),
    "}": lambda machine: machine.new_dictionary([]),
    "d": _on_mark(Machine.new_dictionary),
    "s": _set_item,
    "u": _on_mark(_set_all),
    # The stack and the memo
    "0": _pop,
    "1": _on_mark(lambda machine, items: None),
    "2": _read(lambda machine: machine.stack[-1]),
    "p": lambda machine: machine.put(_decimal(machine)),
    "q": lambda machine: machine.put(machine.stream.byte()),
    "r": lambda machine: machine.put(machine.stream.number(U32)),
    "\x94": lambda machine: machine.put(len(machine.memo) + len(machine.sparse_memo)),
    "g": lambda machine: machine.get(_decimal(machine)),
    "h": lambda machine: machine.get(machine.stream.byte()),
    "j": lambda machine: machine.get(machine.stream.number(U32)),
    # Imports and calls
    "c": _global,
    "\x93": _stack_global,
    "\x82": lambda machine: _extension(machine, machine.stream.byte()),
    "\x83": lambda machine: _extension(machine, machine.stream.number(U16)),
    "\x84": lambda machine: _extension(machine, machine.stream.number(I32)),
    "R": _reduce,
    "\x81": _reduce,
    "\x92": _newobj_ex,
    "i": _inst,
    "o": _on_mark(_obj),
    "b": Machine.build,
    "P": lambda machine: machine.persist(_name_line(machine)),
    "Q": lambda machine: machine.persist(machine.stack.pop()),
}

TABLE: tuple[Instruction | None, ...] = tuple(_BY_CODE.get(chr(code)) for code in range(256))
