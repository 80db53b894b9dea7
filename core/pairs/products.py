"""Rules of two arguments and more."""

from collections.abc import Callable
from typing import Any

import torch

from trigbench.core.pairs.pair import SEQUENCES, Pair, Rule, parts_of


def two(combine: Callable[..., Any], reflected: bool = False) -> Rule:
    """The rule of a function of two arguments; `combine` gets (func, (a, da), (b, db), value), da or db None if plain.

    `reflected` functions take b first.
    """

    def rule(func, args, kwargs, value):
        if kwargs or len(args) != 2:
            return NotImplemented
        a, b = args[::-1] if reflected else args
        return combine(func, *parts_of(a), *parts_of(b), value)

    return rule


def bilinear(func, a, da, b, db, value):
    """da @ b + a @ db."""
    if db is None:
        return func(da, b)
    return func(a, db) if da is None else func(da, b) + func(a, db)


def multiply(func, a, da, b, db, value):
    """da b + a db."""
    if db is None:
        return da * b
    return a * db if da is None else torch.addcmul(da * b, a, db)


def add(func, a, da, b, db, value):
    """da + db."""
    return da if db is None else db if da is None else da + db


def subtract(func, a, da, b, db, value):
    """da - db."""
    return da if db is None else -db if da is None else da - db


def divide(func, a, da, b, db, value):
    """(da - y db) / b."""
    if db is None:
        return da / b
    return -(value * db) / b if da is None else (da - value * db) / b


def hypotenuse(func, a, da, b, db, value):
    """(a da + b db) / y."""
    moved = 0 if da is None else a * da
    return (moved if db is None else moved + b * db) / value


def einsum(func, args, kwargs, value):
    """Multilinear: the sum over operands, each in its turn replaced by its tangent."""
    equation, *operands = args
    operands = list(operands[0]) if len(operands) == 1 and type(operands[0]) in SEQUENCES else operands
    if not isinstance(equation, str):
        return NotImplemented
    plain = [parts_of(operand)[0] for operand in operands]
    moved = [(i, operand.tangent) for i, operand in enumerate(operands) if type(operand) is Pair]
    return sum(func(equation, *plain[:i], tangent, *plain[i + 1 :]) for i, tangent in moved)


def where(func, args, kwargs, value):
    """Of the side that is taken."""
    if kwargs or len(args) != 3 or type(args[0]) is Pair:
        return NotImplemented
    sides = [parts_of(side)[1] for side in args[1:]]
    zero = value.new_zeros(())
    return func(args[0], *(zero if side is None else side for side in sides))
