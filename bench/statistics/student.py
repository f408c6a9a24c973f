"""Student's t, and an equivalent for a variance with two components."""

from __future__ import annotations

import functools
import math
from types import ModuleType


def t_quantile(df: float, level: float) -> float:
    """Two-sided quantile of Student's t at `level`; df may be inf."""
    return _upper(df, 1 - level)


def half_width(first: float, first_df: float, second: float, second_df: float, level: float) -> float:
    """Half-width of the interval of a mean whose variance SE^2 is the sum of two estimates.

    ``t = t2 + (t1 - t2) w^(1 + 1.2 t2 / t1)``, where t1 and t2 belong to the two degrees of freedom and w
    is the first estimate's share of SE^2. With w = 1 this is Student's t of the first, with w = 0 of the
    second. In between there is no exact t. Satterthwaite's degrees of freedom give intervals that cover as
    little as 92% at 2 degrees of freedom, and the plain weighted mean (Cochran & Cox 1950, exponent 1) as
    much as 97%. With this exponent 95% intervals cover, for any share of SE^2, 94.2 to 95.9% if `first_df` is
    2, 94.7 to 95.2% if it is 4 and 94.9 to 95.0% if it is 9 or more (by quadrature, with the second variance
    known). Not valid with `first_df` 1, where it covers as little as 93.2%, or with a small `second_df`.

    Args:
        first: estimated variance with few degrees of freedom.
        first_df: degrees of freedom of `first`.
        second: estimated variance with many degrees of freedom.
        second_df: degrees of freedom of `second`; may be infinite.
        level: nominal coverage.
    """
    return _t(first, first_df, second, second_df, 1 - level) * math.sqrt(first + second)


def p_value(value: float, first: float, first_df: float, second: float, second_df: float) -> float:
    """Two-sided p of the null hypothesis 0: the level at which the interval of `half_width` ends at 0.

    So p < 0.05 is equivalent to a 95% interval without 0. p is at least 1e-16, or 0 if SE is 0 and `value` is
    not. With few degrees of freedom small p-values are rough: at `first_df` 2, p <= 0.01 occurs up to 1.6
    times and p <= 0.001 up to 3 times as often as it should, or far less often, depending on the shares of
    SE^2.
    """
    error = math.sqrt(first + second)
    if error == 0:
        return 1.0 if value == 0 else 0.0
    if second == 0:
        return max(1e-16, 2 * float(_special().stdtr(first_df, -abs(value) / error)))
    if _t(first, first_df, second, second_df, 1e-16) * error <= abs(value):
        return 1e-16
    low, high = -16.0, 0.0  # of log10 p
    for _ in range(30):  # to 8 digits
        middle = (low + high) / 2
        if _t(first, first_df, second, second_df, 10**middle) * error > abs(value):
            low = middle
        else:
            high = middle
    return float(10**high)


def _t(first: float, first_df: float, second: float, second_df: float, tail: float) -> float:
    total = first + second
    if total == 0:
        return 0.0
    t1, t2 = _upper(first_df, tail), _upper(second_df, tail)
    if t1 == 0:  # the tails are empty
        return 0.0
    return t2 + (t1 - t2) * (first / total) ** (1 + 1.2 * t2 / t1)


@functools.lru_cache(maxsize=2**14)  # the bisections of `p_value` begin with the same tails
def _upper(df: float, tail: float) -> float:
    special = _special()
    return -float(special.ndtri(tail / 2) if math.isinf(df) else special.stdtrit(df, tail / 2))


@functools.cache
def _special() -> ModuleType:
    """Imported where it is needed, and once: an import statement takes longer than a quantile."""
    import scipy.special  # scipy.stats would take seconds

    return scipy.special
