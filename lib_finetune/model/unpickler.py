"""An unpickler that makes plain containers only: whatever else a pickle names becomes an inert stand-in, and nothing of it is imported.

Not Python's own with fewer names: that one calls what an object brings for its state, and takes memory by numbers that the file tells.
The opcodes are those of the standard library's ``pickletools``, which explains each.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

PARTS_AT_MOST = 2_000_000
BYTES_AT_MOST = 64 << 20
"""Of one pickle; the names and sizes of a whole checkpoint take one."""
_DEEPEST_KEY, _LONGEST_KEY = 2, 8
_LONGEST_LINE = 4096
_MARK = object()


class UnpicklingError(ValueError):
    """The pickle is broken, or holds what no file of tensors does."""


class Inert:
    """Stands for a class, a function or an object that a pickle names; takes whatever is done to it, and does nothing."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}, not loaded>"


class Known:
    """A name whose calls are answered by a function of ours."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call


@runtime_checkable
class StandIn(Protocol):
    """A stand-in of ours that takes what an object brings for its state."""

    def restore(self, state: Any) -> None:
        """
        Raises:
            UnpicklingError: it is broken.
        """


class Module(dict[str, Any]):
    """Stands for a module of parameters, as torch's ParameterDict; holds them by their names."""

    __slots__ = ()


def _ordered(pairs: Any = ()) -> OrderedDict[Any, Any]:
    ordered: OrderedDict[Any, Any] = OrderedDict()
    for key, value in _is(pairs, list, tuple):
        ordered[_key(key)] = value
    return ordered


def _set(values: Any = ()) -> set[Any]:
    return {_key(value) for value in _is(values, list, tuple)}


def _frozen(values: Any = ()) -> frozenset[Any]:
    return frozenset(_set(values))


def _encoded(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocols below 3 write them."""
    if encoding not in ("latin1", "latin-1"):
        raise UnpicklingError(f"it encodes text as {encoding!r:.40}")
    return str(_is(text, str)).encode("latin-1")


PLAIN: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Known("OrderedDict", _ordered),
    ("builtins", "set"): Known("set", _set),
    ("__builtin__", "set"): Known("set", _set),
    ("builtins", "frozenset"): Known("frozenset", _frozen),
    ("__builtin__", "frozenset"): Known("frozenset", _frozen),
    ("_codecs", "encode"): Known("encode", _encoded),
}


class Unpickler:
    """Reads one pickle after the other from bytes."""

    def __init__(self, data: Any, known: Mapping[tuple[str, str], Any], persistent: Callable[[Any], Any] | None = None) -> None:
        """
        Args:
            data: bytes, or a file that is mapped.
            known: (module, name) → what stands for it, beside `PLAIN`; where that is `Known`, calls reach it.
            persistent: gives what lies outside the pickle.
        """
        self._data = data
        self._known = {**PLAIN, **known}
        self._persistent = persistent
        self.place = 0
        """Where the next pickle begins."""
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self._end = self._left = 0

    def load(self) -> Any:
        """The next pickle's content.

        Raises:
            UnpicklingError: it is broken, or larger than what it describes can be.
        """
        self.stack, self.memo = [], {}
        self._end, self._left = self.place + BYTES_AT_MOST, PARTS_AT_MOST
        try:
            while True:
                self.pay(1)
                code = self.take(1)
                if code == b".":
                    return self.pop()
                _OPCODES[code](self)
        except UnpicklingError:
            raise
        except KeyError as error:
            raise UnpicklingError(f"{error} is nothing that a file of tensors holds, at byte {self.place}") from error
        except (IndexError, TypeError, ValueError, OverflowError, AttributeError, struct.error, RuntimeError, MemoryError) as error:
            raise UnpicklingError(f"it is broken at byte {self.place}") from error

    def pay(self, parts: int) -> None:
        """A few bytes can ask for much work, again and again; it is all counted."""
        self._left -= parts
        if self._left < 0:
            raise UnpicklingError(f"its pickle has more than {PARTS_AT_MOST} parts")

    # -- bytes -----------------------------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        """The next bytes."""
        end = self.place + count
        if end > len(self._data):
            raise UnpicklingError("it is half a download, or broken: it ends too early")
        if end > self._end:
            raise UnpicklingError(f"its pickle is larger than {BYTES_AT_MOST >> 20} MiB")
        taken = bytes(self._data[self.place : end])
        self.place = end
        return taken

    def line(self) -> str:
        """Text up to the end of the line."""
        end = self._data.find(b"\n", self.place, self.place + _LONGEST_LINE)
        if end < 0:
            raise UnpicklingError("it is half a download, or broken: it holds a line without an end")
        return self.take(end + 1 - self.place)[:-1].decode("utf-8")

    def number(self, form: str) -> Any:
        """A number of a form of the library ``struct``."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def counted(self, form: str) -> bytes:
        """Bytes behind their count."""
        count = self.number(form)
        if count < 0:
            raise UnpicklingError("it counts below zero")
        return self.take(count)

    # -- the stack -------------------------------------------------------------------------------------------------

    def push(self, value: Any) -> None:
        """On the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """The last value."""
        value = self.stack.pop()
        if value is _MARK:
            raise UnpicklingError("it is broken: it has a mark in place of a value")
        return value

    def top(self) -> Any:
        """The last value, which stays."""
        value = self.pop()
        self.push(value)
        return value

    def since_mark(self) -> list[Any]:
        """All values since the last mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise UnpicklingError("it is broken: a mark is missing")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    # -- names and calls -------------------------------------------------------------------------------------------

    def named(self, module: Any, name: Any) -> Any:
        """What stands for a name."""
        key = (_is(module, str), _is(name, str))
        return self._known[key] if key in self._known else Inert(f"{module}.{name}"[:200])

    def call(self, what: Any, arguments: Any) -> Any:
        """What stands for a call, or for a new object of a class."""
        values = _is(arguments, tuple)
        if isinstance(what, Known):
            self.pay(sum(len(each) for each in values if isinstance(each, (str, list, tuple))))
            return what.call(*values)
        return Inert(_is(what, Inert).name)

    def outside(self, name: Any) -> Any:
        """What lies outside the pickle."""
        if self._persistent is None:
            raise UnpicklingError("it names something outside of its pickle")
        return self._persistent(name)


def _is(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise UnpicklingError(f"it is broken: {type(value).__name__} stands where {kinds[0].__name__} should")
    return value


def _key(value: Any, depth: int = 0) -> Any:
    """A value that may be a key: its hash does not take for ever."""
    if type(value) is tuple:
        if depth == _DEEPEST_KEY or len(value) > _LONGEST_KEY:
            raise UnpicklingError("it is broken: a key has too many parts")
        for part in value:
            _key(part, depth + 1)
    elif type(value).__hash__ is None:
        raise UnpicklingError(f"it is broken: {type(value).__name__} is no key")
    return value


# -- opcodes -----------------------------------------------------------------------------------------------------------


def _put(target: Any, pairs: list[Any]) -> None:
    if len(pairs) % 2:
        raise UnpicklingError("it is broken: a key has no value")
    if isinstance(target, Inert):
        return
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        _is(target, dict, OrderedDict)[_key(key)] = value


def _append(target: Any, values: list[Any]) -> None:
    if not isinstance(target, Inert):
        _is(target, list).extend(values)


def _add(target: Any, values: list[Any]) -> None:
    if not isinstance(target, Inert):
        _is(target, set).update(_key(value) for value in values)


def _build(machine: Unpickler) -> None:
    """The state of an object is forgotten, but for a module's parameters and what one of our stand-ins takes of it."""
    state = machine.pop()
    target = machine.top()
    if type(target) is Module and type(state) is dict:
        parameters = _is(state.get("_parameters", {}), dict, OrderedDict)
        machine.pay(len(parameters))
        target.update(parameters)
    elif isinstance(target, StandIn):
        target.restore(state)


def _tuple_of(count: int) -> Callable[[Unpickler], None]:
    def run(machine: Unpickler) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.push(tuple(reversed(values)))

    return run


def _global(machine: Unpickler) -> None:
    module = machine.line()
    machine.push(machine.named(module, machine.line()))


def _stack_global(machine: Unpickler) -> None:
    name = machine.pop()
    machine.push(machine.named(machine.pop(), name))


def _reduce(machine: Unpickler) -> None:
    arguments = machine.pop()
    machine.push(machine.call(machine.pop(), arguments))


def _newobj_ex(machine: Unpickler) -> None:
    keywords, arguments = _is(machine.pop(), dict), machine.pop()
    what = machine.pop()
    if keywords and isinstance(what, Known):
        raise UnpicklingError(f"it is broken: {what.name} takes no such arguments")
    machine.push(machine.call(what, arguments))


def _inst(machine: Unpickler) -> None:
    module = machine.line()
    what = machine.named(module, machine.line())
    machine.push(machine.call(what, tuple(machine.since_mark())))


def _obj(machine: Unpickler) -> None:
    what, *arguments = machine.since_mark()
    machine.push(machine.call(what, tuple(arguments)))


def _dict(machine: Unpickler) -> None:
    pairs, table = machine.since_mark(), dict[Any, Any]()
    _put(table, pairs)
    machine.push(table)


def _setitem(machine: Unpickler) -> None:
    value, key = machine.pop(), machine.pop()
    _put(machine.top(), [key, value])


def _setitems(machine: Unpickler) -> None:
    pairs = machine.since_mark()
    _put(machine.top(), pairs)


def _appends(add: Callable[[Any, list[Any]], None]) -> Callable[[Unpickler], None]:
    def run(machine: Unpickler) -> None:
        values = machine.since_mark()
        add(machine.top(), values)

    return run


def _one_append(machine: Unpickler) -> None:
    value = machine.pop()
    _append(machine.top(), [value])


def _remember(place: Callable[[Unpickler], int]) -> Callable[[Unpickler], None]:
    def run(machine: Unpickler) -> None:
        machine.memo[place(machine)] = machine.top()

    return run


def _recall(place: Callable[[Unpickler], int]) -> Callable[[Unpickler], None]:
    def run(machine: Unpickler) -> None:
        key = place(machine)
        if key not in machine.memo:
            raise UnpicklingError(f"it is broken: it recalls part {key}, which there is not")
        machine.push(machine.memo[key])

    return run


def _pushed(read: Callable[[Unpickler], Any]) -> Callable[[Unpickler], None]:
    return lambda machine: machine.push(read(machine))


def _line_number(machine: Unpickler) -> Any:
    text = machine.line()
    return {"00": False, "01": True}[text] if text in ("00", "01") else _whole(text.removesuffix("L"))


def _whole(text: str) -> int:
    if len(text) > 1000:  # the time that it takes grows with the square
        raise UnpicklingError("it holds a number of more than 1000 digits")
    return int(text)


def _protocol(machine: Unpickler) -> None:
    if (version := machine.take(1)[0]) > 5:
        raise UnpicklingError(f"it is of the pickle protocol {version}, which is not known")


def _line_text(machine: Unpickler) -> str:
    """Of the oldest protocol, whose escapes no file of tensors needs."""
    text = machine.line()
    if "\\" in text:
        raise UnpicklingError("it holds text in an old form")
    return text


def _old_text(machine: Unpickler) -> str:
    """Python 2's, in quotes."""
    text = _line_text(machine)
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        raise UnpicklingError("it is broken: a text is not in quotes")
    return text[1:-1]


def _counted_text(form: str) -> Callable[[Unpickler], None]:
    return _pushed(lambda machine: machine.counted(form).decode("utf-8", "replace"))


def _counted_bytes(form: str) -> Callable[[Unpickler], None]:
    return _pushed(lambda machine: machine.counted(form))


def _counted_number(form: str) -> Callable[[Unpickler], None]:
    return _pushed(lambda machine: int.from_bytes(machine.counted(form), "little", signed=True))


def _numbered(form: str) -> Callable[[Unpickler], None]:
    return _pushed(lambda machine: machine.number(form))


_OPCODES: dict[bytes, Callable[[Unpickler], Any]] = {
    # what has no content
    b"\x80": _protocol, b"\x95": lambda machine: machine.take(8), b"(": lambda machine: machine.push(_MARK),
    b"0": lambda machine: machine.stack.pop(), b"1": lambda machine: machine.since_mark(), b"2": lambda machine: machine.push(machine.top()),
    # plain values
    b"N": _pushed(lambda _: None), b"\x88": _pushed(lambda _: True), b"\x89": _pushed(lambda _: False),
    b"I": _pushed(_line_number), b"L": _pushed(_line_number), b"F": _pushed(lambda machine: float(machine.line())),
    b"J": _numbered("<i"), b"K": _numbered("<B"), b"M": _numbered("<H"), b"G": _numbered(">d"),
    b"\x8a": _counted_number("<B"), b"\x8b": _counted_number("<i"),
    b"S": _pushed(_old_text), b"T": _counted_text("<i"), b"U": _counted_text("<B"), b"V": _pushed(_line_text),
    b"X": _counted_text("<I"), b"\x8c": _counted_text("<B"), b"\x8d": _counted_text("<Q"),
    b"B": _counted_bytes("<I"), b"C": _counted_bytes("<B"), b"\x8e": _counted_bytes("<Q"), b"\x96": _counted_bytes("<Q"),
    # containers
    b"]": _pushed(lambda _: []), b"}": _pushed(lambda _: {}), b")": _pushed(lambda _: ()), b"\x8f": _pushed(lambda _: set()),
    b"l": _pushed(lambda machine: machine.since_mark()), b"t": _pushed(lambda machine: tuple(machine.since_mark())), b"d": _dict,
    b"\x85": _tuple_of(1), b"\x86": _tuple_of(2), b"\x87": _tuple_of(3), b"\x91": _pushed(lambda machine: _set(machine.since_mark())),
    b"a": _one_append, b"e": _appends(_append), b"\x90": _appends(_add), b"s": _setitem, b"u": _setitems,
    # the memo
    b"p": _remember(lambda machine: _whole(machine.line())), b"q": _remember(lambda machine: machine.number("<B")),
    b"r": _remember(lambda machine: machine.number("<I")), b"\x94": _remember(lambda machine: len(machine.memo)),
    b"g": _recall(lambda machine: _whole(machine.line())), b"h": _recall(lambda machine: machine.number("<B")),
    b"j": _recall(lambda machine: machine.number("<I")),
    # names, calls, objects; the registry of extensions and out-of-band buffers are in no file
    b"c": _global, b"\x93": _stack_global, b"R": _reduce, b"b": _build, b"i": _inst, b"o": _obj, b"\x81": _reduce, b"\x92": _newobj_ex,
    b"Q": _pushed(lambda machine: machine.outside(machine.pop())),
}  # fmt: skip
