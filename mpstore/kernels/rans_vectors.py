"""Sixteen rANS states at a time, for processors with AVX-512: what codec_rans_numba does lane by lane.

Relies on numba and llvmlite. Promises: the same words and states as the scalar loops; reads and writes
exactly the lanes and words that those would. The vectors are portable LLVM, so this compiles everywhere,
but it pays only where `PAYS` says so.

Arguments are contiguous arrays (states, rows, widths, rests and tables uint32, marks uint8, words uint16),
`at` where the sixteen elements begin in those of a chunk, `lane` where their states begin, and `position` the
next word. Bounds are the caller's business. Each function returns the number of words it took or gave.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import llvmlite.binding  # type: ignore[import-untyped]
from llvmlite import ir
from numba import extending, types

intrinsic: Any = extending.intrinsic
_FEATURES: Final = llvmlite.binding.get_host_cpu_features()
PAYS: Final = bool(_FEATURES.get("avx512vbmi2") and _FEATURES.get("avx512bw") and _FEATURES.get("avx512vl"))

_LANES: Final = 16
_BIT, _BYTE, _WORD, _INT, _LONG = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))


class _Vectors:
    """A builder of sixteen-lane code, with the few operations that the coders need."""

    def __init__(self, builder: Any) -> None:
        self.b = builder

    def splat(self, value: int, of: Any = _INT) -> Any:
        return ir.Constant(ir.VectorType(of, _LANES), [value] * _LANES)

    def load(self, address: Any, of: Any = _INT) -> Any:
        loaded = self.b.load(self.b.inttoptr(address, ir.VectorType(of, _LANES).as_pointer()))
        loaded.align = of.width // 8
        return loaded

    def store(self, value: Any, address: Any) -> None:
        stored = self.b.store(value, self.b.inttoptr(address, value.type.as_pointer()))
        stored.align = value.type.element.width // 8

    def resize(self, value: Any, item: Any) -> Any:
        """The lanes as integers of another width."""
        if item.width == value.type.element.width:
            return value
        change = self.b.trunc if item.width < value.type.element.width else self.b.zext
        return change(value, ir.VectorType(item, _LANES))

    def behind(self, address: Any, offset: int) -> Any:
        return self.b.add(address, ir.Constant(_LONG, offset))

    def merge(self, *arms: tuple[Any, Any]) -> Any:
        """The value of whichever block control came from."""
        phi = self.b.phi(arms[0][0].type)
        for value, block in arms:
            phi.add_incoming(value, block)
        return phi

    def call(self, name: str, result: Any, arguments: list[Any]) -> Any:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = self.b.module.globals.get(name) or ir.Function(self.b.module, kind, name)
        return self.b.call(function, arguments)

    def gather(self, table: Any, index: Any) -> Any:
        """uint32 table[index] of each lane."""
        wide = ir.VectorType(_LONG, _LANES)
        start = self.b.insert_element(ir.Constant(wide, ir.Undefined), table, ir.Constant(_INT, 0))
        start = self.b.shuffle_vector(start, ir.Constant(wide, ir.Undefined), self.splat(0))
        addresses = self.b.add(start, self.b.shl(self.b.zext(index, wide), self.splat(2, _LONG)))
        pointers = self.b.inttoptr(addresses, ir.VectorType(_INT.as_pointer(), _LANES))
        every = self.splat(1, _BIT)
        arguments = [pointers, ir.Constant(_INT, 4), every, self.splat(0)]
        return self.call("llvm.masked.gather.v16i32.v16p0", ir.VectorType(_INT, _LANES), arguments)

    def count(self, mask: Any) -> Any:
        return self.b.zext(self.b.ctpop(self.b.bitcast(mask, _WORD)), _LONG)

    def refill(self, state: Any, words: Any) -> tuple[Any, Any]:
        """States below 2^16 take the next word each, in lane order: new states, words taken."""
        short = self.b.icmp_unsigned("<", state, self.splat(1 << 16))
        source = self.b.inttoptr(words, _WORD.as_pointer())
        vector = ir.VectorType(_WORD, _LANES)
        taken = self.call("llvm.masked.expandload.v16i16", vector, [source, short, self.splat(0, _WORD)])
        longer = self.b.or_(self.b.shl(state, self.splat(16)), self.b.zext(taken, state.type))
        return self.b.select(short, longer, state), self.count(short)

    def emit(self, state: Any, full: Any, words: Any) -> tuple[Any, Any]:
        """The low 16 bits of full states go in front of `words`, in lane order: new states, words given."""
        vector = ir.VectorType(_WORD, _LANES)
        low = self.b.trunc(state, vector)
        packed = self.call(
            "llvm.experimental.vector.compress.v16i16", vector, [low, full, self.splat(0, _WORD)]
        )
        count = self.count(full)
        target = self.b.sub(words, self.b.shl(count, ir.Constant(_LONG, 1)))
        ones = self.b.sub(self.b.shl(ir.Constant(_LONG, 1), count), ir.Constant(_LONG, 1))
        first = self.b.bitcast(self.b.trunc(ones, _WORD), ir.VectorType(_BIT, _LANES))
        pointer = self.b.inttoptr(target, vector.as_pointer())
        arguments = [packed, pointer, ir.Constant(_INT, 2), first]
        self.call("llvm.masked.store.v16i16.p0", ir.VoidType(), arguments)
        return self.b.select(full, self.b.lshr(state, self.splat(16)), state), count


def _intrinsic(arguments: tuple[Any, ...], build: Callable[..., Any]) -> Any:
    """What numba wants of an intrinsic: its signature and its code. `build` gets every array argument that is
    followed by an index as the address of that element, and a lone array as the address of its first."""
    signature = types.uint64(*arguments)

    def codegen(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        addresses: list[Any] = []
        item_bytes = 0
        for kind, value in zip(arguments, values, strict=True):
            if isinstance(kind, types.Array):
                data = context.make_array(kind)(context, builder, value).data
                addresses.append(builder.ptrtoint(data, _LONG))
                item_bytes = kind.dtype.bitwidth // 8
            else:
                offset = builder.mul(value, ir.Constant(_LONG, item_bytes))
                addresses[-1] = builder.add(addresses[-1], offset)
        return build(_Vectors(builder), *addresses)

    return signature, codegen


@intrinsic
def pull_symbols(
    typing: Any,
    table: Any,
    rows: Any,
    at: Any,
    state: Any,
    lane: Any,
    words: Any,
    position: Any,
    marks: Any,
    to: Any,
) -> Any:
    """table[row + slot] of each state: its symbol into marks (at index `to`), the state moved on."""
    del typing

    def build(v: _Vectors, table: Any, rows: Any, state: Any, words: Any, marks: Any) -> Any:
        mark, x, after = _symbol(v, table, v.load(rows), v.load(state), words)
        v.store(v.b.trunc(mark, ir.VectorType(_BYTE, _LANES)), marks)
        v.store(x, state)
        return v.b.lshr(v.b.sub(after, words), ir.Constant(_LONG, 1))

    return _intrinsic((table, rows, at, state, lane, words, position, marks, to), build)


@intrinsic
def pull_chunk(
    typing: Any,
    table: Any,
    rows: Any,
    at: Any,
    state: Any,
    lane: Any,
    words: Any,
    position: Any,
    out: Any,
    to: Any,
) -> Any:
    """Four steps of 32 lanes: symbols and, where a step has any, their raw bits (at most 16 each); the
    distances go to `out`, of any width. States stay in registers."""
    del typing
    item = ir.IntType(out.dtype.bitwidth)

    def build(v: _Vectors, table: Any, rows: Any, state: Any, words: Any, out: Any) -> Any:
        b = v.b
        first = words
        halves = [v.load(state), v.load(v.behind(state, 64))]
        for step in range(4):
            marks = []
            for half in range(2):
                row = v.load(v.behind(rows, 128 * step + 64 * half))
                mark, halves[half], words = _symbol(v, table, row, halves[half], words)
                marks.append(mark)
            seen = b.icmp_unsigned(">=", b.or_(*marks), v.splat(16))
            before = b.basic_block
            some = b.icmp_unsigned("!=", b.bitcast(seen, _WORD), ir.Constant(_WORD, 0))
            with b.if_then(some):
                values, moved, taken = [], [], words
                for half in range(2):
                    value, longer, taken = _raw(v, marks[half], halves[half], taken)
                    values.append(value)
                    moved.append(longer)
                inside = b.basic_block
            words = v.merge((words, before), (taken, inside))
            halves = [v.merge((halves[half], before), (moved[half], inside)) for half in range(2)]
            results = [v.merge((marks[half], before), (values[half], inside)) for half in range(2)]
            for half in range(2):
                v.store(
                    v.resize(results[half], item), v.behind(out, (32 * step + 16 * half) * item.width // 8)
                )
        v.store(halves[0], state)
        v.store(halves[1], v.behind(state, 64))
        return b.lshr(b.sub(words, first), ir.Constant(_LONG, 1))

    return _intrinsic((table, rows, at, state, lane, words, position, out, to), build)


def _symbol(v: _Vectors, table: Any, row: Any, x: Any, words: Any) -> tuple[Any, Any, Any]:
    """One symbol off each state: marks, states, where the next words are."""
    b = v.b
    entry = v.gather(table, b.add(b.and_(x, v.splat(4095)), row))
    frequency = b.and_(b.lshr(entry, v.splat(8)), v.splat(4095))
    x = b.add(b.mul(frequency, b.lshr(x, v.splat(12))), b.lshr(entry, v.splat(20)))
    x, taken = v.refill(x, words)
    return b.and_(entry, v.splat(255)), x, b.add(words, b.shl(taken, ir.Constant(_LONG, 1)))


def _raw(v: _Vectors, mark: Any, x: Any, words: Any) -> tuple[Any, Any, Any]:
    """The raw bits of tokens (at most 16 each) off each state: values, states, where the next words are."""
    b = v.b
    direct = b.icmp_unsigned("<", mark, v.splat(16))
    width = b.select(direct, v.splat(0), b.sub(b.lshr(mark, v.splat(1)), v.splat(5)))
    rest = b.and_(x, b.sub(b.shl(v.splat(1), width), v.splat(1)))
    leading = b.shl(b.or_(b.and_(mark, v.splat(1)), v.splat(2)), width)
    x, taken = v.refill(b.lshr(x, width), words)
    value = b.select(direct, mark, b.or_(leading, rest))
    return value, x, b.add(words, b.shl(taken, ir.Constant(_LONG, 1)))


@intrinsic
def pull_bits(
    typing: Any, widths: Any, at: Any, rests: Any, to: Any, state: Any, lane: Any, words: Any, position: Any
) -> Any:
    """The low `width` bits (at most 16) of each state into rests, the state moved on."""
    del typing

    def build(v: _Vectors, widths: Any, rests: Any, state: Any, words: Any) -> Any:
        b = v.b
        x, width = v.load(state), v.load(widths)
        v.store(b.and_(x, b.sub(b.shl(v.splat(1), width), v.splat(1))), rests)
        x, taken = v.refill(b.lshr(x, width), words)
        v.store(x, state)
        return taken

    return _intrinsic((widths, at, rests, to, state, lane, words, position), build)


@intrinsic
def push_raw(
    typing: Any, widths: Any, at: Any, rests: Any, frm: Any, state: Any, lane: Any, words: Any, position: Any
) -> Any:
    """Inverse of `pull_bits`; `position` is behind the words to be written."""
    del typing

    def build(v: _Vectors, widths: Any, rests: Any, state: Any, words: Any) -> Any:
        b = v.b
        x, width = v.load(state), v.load(widths)
        top = b.lshr(b.lshr(x, v.splat(16)), b.sub(v.splat(16), width))
        x, given = v.emit(x, b.icmp_unsigned("!=", top, v.splat(0)), words)
        v.store(b.or_(b.shl(x, width), v.load(rests)), state)
        return given

    return _intrinsic((widths, at, rests, frm, state, lane, words, position), build)


@intrinsic
def push_symbols(
    typing: Any, table: Any, indices: Any, at: Any, state: Any, lane: Any, words: Any, position: Any
) -> Any:
    """Inverse of `pull_symbols` for table[index] = start << 12 | frequency of each symbol."""
    del typing

    def build(v: _Vectors, table: Any, indices: Any, state: Any, words: Any) -> Any:
        b = v.b
        x = v.load(state)
        entry = v.gather(table, v.load(indices))
        frequency = b.and_(entry, v.splat(4095))
        full = b.icmp_unsigned(">=", x, b.shl(frequency, v.splat(20)))
        x, given = v.emit(x, full, words)
        # q = x / frequency, below 2^20, by single precision: at most one off, which the remainder tells
        floats = ir.VectorType(ir.FloatType(), _LANES)
        ratio = b.fdiv(b.uitofp(x, floats), b.uitofp(frequency, floats))
        quotient = b.fptoui(ratio, x.type)
        rest = b.sub(x, b.mul(quotient, frequency))
        below = b.icmp_signed("<", rest, v.splat(0))
        quotient = b.select(below, b.sub(quotient, v.splat(1)), quotient)
        rest = b.select(below, b.add(rest, frequency), rest)
        above = b.icmp_unsigned(">=", rest, frequency)
        quotient = b.select(above, b.add(quotient, v.splat(1)), quotient)
        rest = b.select(above, b.sub(rest, frequency), rest)
        v.store(b.add(b.add(b.shl(quotient, v.splat(12)), rest), b.lshr(entry, v.splat(12))), state)
        return given

    return _intrinsic((table, indices, at, state, lane, words, position), build)
