"""Where a search draws a parameter from: uniformly, uniformly in its logarithm, or from a list."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

from marginbench.errors import UserError

DIGITS = 4
"""Significant digits of a drawn number: a key shall not depend on a processor's last bit."""


@dataclass(frozen=True)
class _Interval(ABC):
    """What both kinds of interval share.

    Attributes:
        low, high: its ends.
        relative: whether they are factors of the value that the suite has.
        needs: another parameter; where its value is 0 or none, this one is not searched.
    """

    low: float
    high: float
    relative: bool = False
    needs: str = ""

    def __post_init__(self) -> None:
        ends = (self.low, self.high)
        numbers = all(type(end) in (int, float) and math.isfinite(end) for end in ends)
        if not numbers or not self.low < self.high:
            raise UserError(
                f"the range {self.text} is not allowed; allowed: two finite numbers, the lower "
                "one first"
            )

    @property
    def text(self) -> str:
        """ "LogUniform(0.1, 10)"."""
        return f"{type(self).__name__}({self.low!r}, {self.high!r})"

    def ends(self, own: Any) -> tuple[float, float]:
        """The least and the largest value, where the suite has ``own``."""
        return (self.low * own, self.high * own) if self.relative else (self.low, self.high)

    @abstractmethod
    def at(self, position: float, own: Any) -> float:
        """The value at a position from 0 to 1, where the suite has ``own``."""

    @abstractmethod
    def position(self, value: Any, own: Any) -> float | None:
        """The inverse of :meth:`at`; None where a value has no position."""


@dataclass(frozen=True)
class Uniform(_Interval):
    """Every value between two ends is as likely; see :class:`_Interval`."""

    def at(self, position: float, own: Any) -> float:
        low, high = self.ends(own)
        return _rounded(low + position * (high - low))

    def position(self, value: Any, own: Any) -> float | None:
        low, high = self.ends(own)
        return (value - low) / (high - low) if _is_number(value) else None


@dataclass(frozen=True)
class LogUniform(_Interval):
    """Every factor is as likely: 0.1 to 1 as 1 to 10; see :class:`_Interval`. Both ends > 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise UserError(f"the range {self.text} is not allowed; allowed: ends above 0")

    def at(self, position: float, own: Any) -> float:
        low, high = self.ends(own)
        return _rounded(low * (high / low) ** position)

    def position(self, value: Any, own: Any) -> float | None:
        low, high = self.ends(own)
        if not _is_number(value) or value <= 0:
            return None
        return math.log(value / low) / math.log(high / low)


@dataclass(frozen=True)
class Choice:
    """One of several values, each as likely.

    Attributes:
        values: two or more.
        needs: see :class:`_Interval`.
    """

    values: tuple[Any, ...]
    needs: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.values, (tuple, list)) or len(self.values) < 2:
            raise UserError(f"the range {self.text} is not allowed; allowed: two values or more")
        object.__setattr__(self, "values", tuple(self.values))

    @property
    def text(self) -> str:
        """ "Choice((2, 3, 4))"."""
        return f"Choice({self.values!r})"

    def at(self, position: float, own: Any) -> Any:
        """As of an interval."""
        return self.values[min(int(position * len(self.values)), len(self.values) - 1)]

    def position(self, value: Any, own: Any) -> float | None:
        """As of an interval: the middle of the value's share."""
        if value not in self.values:
            return None
        return (self.values.index(value) + 0.5) / len(self.values)


Range = Uniform | LogUniform | Choice
"""What a parameter is drawn from."""


def range_as_json(drawn: Range) -> dict[str, Any]:
    """For :func:`range_from_json`."""
    return {"kind": type(drawn).__name__, **asdict(drawn)}


def range_from_json(content: dict[str, Any]) -> Range:
    """Of :func:`range_as_json`.

    Raises:
        UserError: it is no range.
    """
    kinds = {kind.__name__: kind for kind in (Uniform, LogUniform, Choice)}
    rest = dict(content)
    try:
        return kinds[rest.pop("kind")](**rest)
    except (KeyError, TypeError):
        raise UserError(f"{content!r} is no range") from None


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
