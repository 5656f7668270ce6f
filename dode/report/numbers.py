"""How measured numbers are printed, in tables, on the page and in comparisons."""

import math

#: A number is written without an exponent if its first digit stands between these powers of ten.
SMALLEST, LARGEST = -4, 6
#: So many digits a value has at most, however small its error is.
MOST_DIGITS = 8


def measured(value: float | None, error: float | None = None, sign: str = "") -> tuple[str, str]:
    """A value and its error as text.

    The error has two significant digits, and the value ends where it does; a value whose error is not known or zero has
    three. So neighbours in a table may have different numbers of decimals, but none has digits that mean nothing, and
    none that means something is cut off.

    Args:
        value: what was measured.
        error: its standard deviation, or another measure of its spread.
        sign: ``"+"`` to write the sign of a positive value too.

    Returns:
        Both empty where the value is None or not finite, the error where it is.

    >>> measured(0.101, 0.001), measured(1010.0, 10.0), measured(2e-5, 1e-6), measured(1e30, 1e28), measured(0.5)
    (('0.1010', '0.0010'), ('1010', '10'), ('2.00e-5', '1.0e-6'), ('1.000e30', '1.0e28'), ('0.500', ''))
    """
    if value is None or not math.isfinite(value):
        return "", ""
    spread = abs(error) if error is not None and math.isfinite(error) else None
    size = max(abs(value), spread or 0.0)
    plain = not size or SMALLEST <= _exponent(size, MOST_DIGITS) <= LARGEST
    if spread:
        last = _exponent(spread, 2) - 1
    else:
        last = _exponent(value, 3) - 2
        last = min(last, 0) if plain else last
    if value:
        last = max(last, _exponent(value, MOST_DIGITS) + 1 - MOST_DIGITS)
    if plain:
        return _fixed(value, -last, sign), "" if spread is None else _of_error(spread, last)
    text = _scientific(value, _exponent(value, MOST_DIGITS) - last, sign) if value else "0"
    return text, "" if spread is None else _scientific(spread, 1) if spread else "0"


def fixed(number: float | None, decimals: int) -> str:
    """A number with so many decimals, or with an exponent if it is larger or smaller than they can show.

    Empty where it is None or not finite.

    >>> fixed(0.25, 4), fixed(1e-9, 4), fixed(1e30, 4), fixed(0.0, 4)
    ('0.2500', '1.00e-9', '1.00e30', '0.0000')
    """
    if number is None or not math.isfinite(number):
        return ""
    if number and (_exponent(number, 3) > LARGEST or not round(number, decimals)):
        return _scientific(number, 2)
    return _fixed(number, decimals)


def _exponent(number: float, digits: int) -> int:
    """The power of ten of the first of so many digits: 0.0999… is 0.10."""
    return int(f"{number:.{digits - 1}e}".partition("e")[2])


def _fixed(number: float, decimals: int, sign: str = "") -> str:
    # Adding 0.0 turns a -0.0 left by the rounding into 0.0.
    return f"{round(number, decimals) + 0.0:{sign}.{max(decimals, 0)}f}"


def _of_error(error: float, last: int) -> str:
    """An error of a value that ends at ten to ``last``; one that cannot be seen there has an exponent."""
    return _scientific(error, 1) if error and _exponent(error, 2) - 1 < last else _fixed(error, -last)


def _scientific(number: float, decimals: int, sign: str = "") -> str:
    mantissa, _, exponent = f"{number:{sign}.{max(decimals, 0)}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
