"""The parser of expressions: text in, functions of arrays out."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NoReturn

from playground.arrays import Array, np
from playground.errors import PlaygroundError, closest
from playground.expression.value import (
    Logic,
    Number,
    Truth,
    Values,
    join,
    negated,
)
from playground.quantity import check_unit, convert, seconds
from playground.signals import Signals

DEEPEST = 40
FUNCTIONS = ("abs", "min", "max", "rate")
_KEYWORDS = ("and", "or", "not", "in")
_TOKEN = re.compile(
    r"\s*(?:"
    r"(?P<number>(?:\d+(?:\.(?!\.)\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<op>\.\.|<=|>=|==|!=|&&|\|\||[-+*/<>(),=!|&^%])"
    r")"
)
_UNIT = re.compile(
    r"\s*([a-zA-Zµ°%][\w°%]*(?:\^-?\d+)?(?:[*/][a-zA-Zµ°%]\w*(?:\^-?\d+)?)*)"
)
_ABSOLUTE = {"degC": "K", "degF": "degR"}
"""Units whose zero is not nothing, and the unit of a difference between two."""


class Parser:
    """Recursive descent over one text."""

    def __init__(self, text: str, signals: Signals) -> None:
        self.text = text
        self.signals = signals
        self.names: dict[str, None] = {}
        self.at = 0
        self.depth = 0
        self.sampled = False

    def whole(self) -> Logic:
        """Returns what the whole text says.

        Raises:
            PlaygroundError: It cannot be understood.
        """
        if not self.text.strip():
            raise PlaygroundError(
                f"{self.text!r} is not an expression.",
                "write for instance 'outlet_temp > 65 degC'",
            )
        result = self._or()
        if self._peek() != ("", ""):
            self._unexpected()
        return self._logic(result)

    # -- words ---------------------------------------------------------------

    def _peek(self) -> tuple[str, str]:
        rest = self.text[self.at :]
        if not rest.strip():
            return "", ""
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            self._fail(
                f"{rest.strip()[0]!r} has no meaning here",
                "use names of signals, numbers with units, and, or, not, in, "
                "< <= > >= == !=, + - * /",
            )
        return found.lastgroup or "", found[found.lastgroup or 0]

    def _take(self) -> tuple[str, str]:
        token = self._peek()
        found = _TOKEN.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return token

    def _accept(self, *texts: str) -> str:
        kind, text = self._peek()
        if kind in ("op", "name") and text in texts:
            self._take()
            return text
        return ""

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            self._unexpected(f"{text!r} is missing")

    def _fail(self, problem: str, fix: str = "") -> NoReturn:
        end = "" if problem.endswith("?") else "."
        raise PlaygroundError(f"{self.text!r}: {problem}{end}", fix)

    def _unexpected(self, missing: str = "") -> NoReturn:
        kind, seen = self._peek()
        fixes = {
            "=": "write == to compare",
            "&&": "write and",
            "&": "write and",
            "||": "write or",
            "|": "write or",
            "!": "write not",
            "^": "powers are not known",
        }
        where = f"{seen!r} was not expected here" if kind else "it ends too early"
        self._fail(
            f"{missing}: {where}" if missing else where,
            fixes.get(seen, "write for instance 'outlet_temp > 65 degC'"),
        )

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            self._fail(
                f"more than {DEEPEST} levels of parentheses",
                "split it in several checks",
            )

    # -- logic ---------------------------------------------------------------

    def _logic(self, part: Number | Logic) -> Logic:
        if isinstance(part, Number):
            self._fail(
                f"this is a value in {part.unit}, not something true or false",
                "compare it with a limit, for instance '… > 10'"
                if part.unit == "1"
                else f"compare it with a limit, for instance '… > 10 {part.unit}'",
            )
        return part

    def _or(self) -> Number | Logic:
        left = self._and()
        while self._accept("or"):
            left = join(self._logic(left), self._logic(self._and()), either=True)
        return left

    def _and(self) -> Number | Logic:
        left = self._not()
        while self._accept("and"):
            left = join(self._logic(left), self._logic(self._not()), either=False)
        return left

    def _not(self) -> Number | Logic:
        if self._accept("not"):
            self._deeper()
            inner = self._logic(self._not())
            self.depth -= 1
            return negated(inner)
        return self._comparison()

    def _comparison(self) -> Number | Logic:
        left = self._sum()
        result: Logic | None = None
        while True:
            negative = bool(self._accept("not"))
            if self._accept("in"):
                inside = self._range(self._number(left))
                part = negated(inside) if negative else inside
                return part if result is None else join(result, part, either=False)
            if negative:
                self._unexpected("'in' is missing after 'not'")
            operator = self._accept("<", "<=", ">", ">=", "==", "!=")
            if not operator:
                return left if result is None else result
            right = self._number(self._sum())
            part = self._compare(operator, self._number(left), right)
            result = part if result is None else join(result, part, either=False)
            left = right

    def _range(self, value: Number) -> Logic:
        low = self._number(self._sum())
        self._expect("..")
        high = self._number(self._sum())
        if low.bare and not high.bare and high.literal is not None:
            # 0.1..0.6 l/s: the unit stands once, at the end.
            low = Number(
                low.compute, high.unit, high.difference, low.literal, scale=low.scale
            )
        if (
            low.literal is not None
            and high.literal is not None
            and self._in_unit(low, value)(_NOTHING, {})
            > self._in_unit(high, value)(_NOTHING, {})
        ):
            self._fail(
                f"the range {low.literal:g}..{high.literal:g} runs backwards",
                "write the smaller limit first",
            )
        above = self._compare(">=", value, low)
        return join(above, self._compare("<=", value, high), either=False)

    def _number(self, part: Number | Logic) -> Number:
        if isinstance(part, Logic):
            self._fail(
                "something true or false stands where a value is needed",
                "join conditions with and, or",
            )
        return part

    def _compare(self, operator: str, left: Number, right: Number) -> Logic:
        if left.literal is not None and right.literal is None:
            flipped = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
            return self._compare(flipped.get(operator, operator), right, left)
        other = self._in_unit(right, left)
        unit = _ABSOLUTE.get(left.unit, left.unit)
        compute = left.compute
        scale = max(left.scale, right.scale)

        def evaluate(times_s: Array, values: Values, mixed: bool) -> Truth:  # noqa: FBT001
            a, b = compute(times_s, values), other(times_s, values)
            gap = np.broadcast_to(np.asarray(a - b, float), times_s.shape)
            known = ~np.isnan(gap)
            if operator in ("==", "!="):
                near = np.abs(gap) <= 1e-9 * np.maximum(np.abs(a), np.abs(b))
                true = near if operator == "==" else ~near
                margin = np.where(true, np.inf, -np.inf)
                return Truth(known, known & true, np.where(known, margin, np.nan))
            true = {
                "<": np.less,
                "<=": np.less_equal,
                ">": np.greater,
                ">=": np.greater_equal,
            }[operator](gap, 0.0)
            margin = gap if operator[0] == ">" else -gap
            if mixed:
                whole = scale or np.maximum(np.nanmax(np.abs(b), initial=0.0), 1e-300)
                margin = margin / whole
            return Truth(known, true, margin)

        return Logic(evaluate, () if operator in ("==", "!=") else (unit,))

    def _in_unit(self, number: Number, like: Number) -> Callable[..., Any]:
        """Returns how to compute ``number`` in the unit of ``like``."""
        if number.unit == like.unit:
            return number.compute
        if number.bare:
            shown = (
                _ABSOLUTE.get(like.unit, like.unit) if like.difference else like.unit
            )
            self._fail(
                f"{number.literal:g} has no unit, but it stands beside a value in "
                f"{shown}",
                f"write '{number.literal:g} {shown}'",
            )
        return self._converted(number, like.unit, difference=like.difference)

    def _converted(
        self, number: Number, unit: str, *, difference: bool
    ) -> Callable[..., Any]:
        try:
            zero = convert(0.0, number.unit, unit, difference=difference)
            factor = convert(1.0, number.unit, unit, difference=difference) - zero
        except PlaygroundError as error:
            self._fail(error.problem.rstrip("."), error.fix)
        factor = float(f"{factor:.12g}")
        compute = number.compute
        if number.literal is not None:
            literal = number.literal * factor + zero
            return lambda _times_s, _values: literal
        return lambda times_s, values: compute(times_s, values) * factor + zero

    # -- numbers -------------------------------------------------------------

    def _sum(self) -> Number | Logic:
        left = self._product()
        while operator := self._accept("+", "-"):
            left = self._add(
                operator, self._number(left), self._number(self._product())
            )
        return left

    def _add(self, operator: str, left: Number, right: Number) -> Number:
        sign = 1.0 if operator == "+" else -1.0
        unit, difference = left.unit, left.difference
        if unit in _ABSOLUTE and not difference:
            if right.unit in _ABSOLUTE and not right.difference:
                if operator == "+":
                    self._fail(
                        f"two temperatures in {unit} cannot be added",
                        "add a difference, for instance '+ 5 K'",
                    )
                # Between two temperatures lies a difference.
                other = self._in_unit(right, left)
                unit, difference = _ABSOLUTE[unit], True
            elif right.bare:
                other = self._in_unit(right, left)
            else:
                other = self._converted(right, _ABSOLUTE[unit], difference=True)
        elif right.unit in _ABSOLUTE and not right.difference and not difference:
            if operator == "+" and not left.bare:
                return self._add("+", right, left)
            self._fail(
                f"a temperature in {right.unit} cannot be combined with {unit} here",
                "write temperature - temperature, or temperature ± a difference in K",
            )
        else:
            other = self._in_unit(right, left)
            difference = difference or unit in _ABSOLUTE.values()
        compute = left.compute
        scale = max(left.scale, right.scale)
        literal = None
        if left.literal is not None and right.literal is not None:
            literal = left.literal + sign * other(_NOTHING, {})
        return Number(
            lambda t, v: compute(t, v) + sign * other(t, v),
            unit,
            difference,
            literal,
            left.bare and right.bare,
            scale,
        )

    def _product(self) -> Number | Logic:
        left = self._unary()
        while operator := self._accept("*", "/"):
            left = self._multiply(
                operator, self._number(left), self._number(self._unary())
            )
        return left

    def _multiply(self, operator: str, left: Number, right: Number) -> Number:
        for part in (left, right):
            if part.unit in _ABSOLUTE and not part.difference:
                self._fail(
                    f"a temperature in {part.unit} cannot be multiplied or divided",
                    "use a difference of two temperatures",
                )
        if operator == "*":
            unit = _product_unit(left.unit, right.unit)
            compute: Callable[..., Any] = lambda t, v: a(t, v) * b(t, v)  # noqa: E731
        else:
            unit = "1" if left.unit == right.unit else f"({left.unit})/({right.unit})"
            if right.unit == "1":
                unit = left.unit
            factor = _dimensionless(unit)
            unit = unit if factor is None else "1"
            whole = 1.0 if factor is None else factor
            compute = lambda t, v: whole * a(t, v) / np.asarray(b(t, v), float)  # noqa: E731
        a, b = left.compute, right.compute
        literal = None
        if left.literal is not None and right.literal is not None:
            if operator == "/" and not right.literal:
                self._fail("division by zero", "divide by something else")
            literal = (
                left.literal * right.literal
                if operator == "*"
                else left.literal / right.literal
            )
        return Number(
            compute,
            unit,
            difference=left.difference or right.difference,
            literal=literal,
            bare=left.bare and right.bare,
        )

    def _unary(self) -> Number | Logic:
        if self._accept("-"):
            self._deeper()
            inner = self._number(self._unary())
            self.depth -= 1
            compute = inner.compute
            return Number(
                lambda t, v: -compute(t, v),
                inner.unit,
                inner.difference,
                None if inner.literal is None else -inner.literal,
                inner.bare,
                inner.scale,
            )
        return self._atom()

    def _atom(self) -> Number | Logic:
        kind, text = self._peek()
        if kind == "number":
            self._take()
            return self._literal(float(text))
        if kind == "op" and text == "(":
            self._take()
            self._deeper()
            inner = self._or()
            self.depth -= 1
            self._expect(")")
            return inner
        if kind == "name" and text not in _KEYWORDS:
            self._take()
            if self._accept("("):
                return self._call(text)
            return self._signal(text)
        return self._unexpected("a signal or a number is missing")

    def _literal(self, value: float) -> Number:
        found = _UNIT.match(self.text, self.at)
        unit = ""
        if found is not None and found[1] not in _KEYWORDS:
            unit = found[1]
            try:
                check_unit(unit)
            except PlaygroundError as error:
                self._fail(error.problem.rstrip("."), error.fix)
            self.at = found.end()
        return Number(lambda _t, _v: value, unit or "1", literal=value, bare=not unit)

    def _signal(self, name: str) -> Number:
        if name not in self.signals:
            self._fail(
                f"there is no signal {name!r}.{closest(name, self.signals)}".rstrip(
                    "."
                ),
                f"known signals: {', '.join(self.signals) or 'none'}",
            )
        signal = self.signals[name]
        self.names[name] = None
        span = signal.range[1] - signal.range[0] if signal.range else 0.0
        return Number(lambda _times_s, values: values[name], signal.unit, scale=span)

    def _call(self, name: str) -> Number:
        if name not in FUNCTIONS:
            self._fail(
                f"there is no function {name!r}.{closest(name, FUNCTIONS)}".rstrip("."),
                f"known functions: {', '.join(FUNCTIONS)}",
            )
        self._deeper()
        first = self._number(self._sum())
        if name == "rate":
            result = self._rate(first)
        elif name == "abs":
            compute = first.compute
            result = Number(
                lambda t, v: np.abs(compute(t, v)),
                first.unit,
                first.difference,
                scale=first.scale,
            )
        else:
            result = first
            while self._accept(","):
                result = self._extreme(name, result, self._number(self._sum()))
        self.depth -= 1
        self._expect(")")
        return result

    def _extreme(self, name: str, left: Number, right: Number) -> Number:
        a, b = left.compute, self._in_unit(right, left)

        def compute(times_s: Array, values: Values) -> Any:
            choose = np.minimum if name == "min" else np.maximum
            return choose(a(times_s, values), b(times_s, values))

        return Number(
            compute,
            left.unit,
            left.difference,
            scale=max(left.scale, right.scale),
        )

    def _rate(self, value: Number) -> Number:
        if not self._accept(","):
            self._unexpected("rate needs the time over which to look, 'rate(x, 5min)'")
        end = self.text.find(")", self.at)
        written = self.text[self.at : end if end >= 0 else None].strip()
        try:
            window_s = seconds(written)
        except PlaygroundError as error:
            self._fail(error.problem.rstrip("."), error.fix)
        if not window_s > 0:
            self._fail("the time of a rate must be above 0", "write for instance 5min")
        self.at = end if end >= 0 else len(self.text)
        self.sampled = True
        unit = f"{_ABSOLUTE.get(value.unit, value.unit)}/s"
        compute = value.compute

        def change(times_s: Array, values: Values) -> Array:
            now = np.broadcast_to(np.asarray(compute(times_s, values)), times_s.shape)
            before = np.searchsorted(times_s, times_s - window_s + 1e-9, "right") - 1
            old = np.where(before >= 0, now[np.maximum(before, 0)], np.nan)
            return np.asarray((now - old) / window_s, float)

        return Number(change, "1/s" if unit == "1/s" else unit, difference=True)


_NOTHING = ()
"""No instants: a number that is written out is the same at all of them."""


def _dimensionless(unit: str) -> float | None:
    """Returns the factor to a plain number, if the unit is one: 1000 for kW/W."""
    if "/(" not in unit:
        return None
    try:
        return convert(1.0, unit, "1")
    except PlaygroundError:
        return None


def _product_unit(left: str, right: str) -> str:
    if left == "1":
        return right
    return left if right == "1" else f"({left})*({right})"
