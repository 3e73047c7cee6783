"""Stripe's amounts: from whole numbers in Stripe's smallest unit to the decimal text of the feeds.

Stripe's smallest unit is not always that of ISO 4217, so the table here is Stripe's own: ISK and UGX
are sent with two decimals that must be zeros, MGA without any.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

ZERO_DECIMAL = frozenset(
    [
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "JPY",
        "KMF",
        "KRW",
        "MGA",
        "PYG",
        "RWF",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ]
)
"""Currencies whose amounts Stripe sends as they are."""
TWO_ZEROS = frozenset({"ISK", "UGX"})
"""Currencies without decimals that Stripe sends with two decimals, which are always zeros."""
THREE_DECIMAL = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])
"""Currencies with three decimals, which the feeds do not support."""


class NotAnAmount(ValueError):
    """An amount or currency that cannot be delivered; the message says why."""


def currency_code(currency: Any) -> str:
    """Return a currency of Stripe as the feeds write it.

    Raises:
        NotAnAmount: The text is not a currency, or the currency has three decimals.
    """
    code = str(currency or "").upper()
    if len(code) != 3 or not code.isascii() or not code.isalpha():
        raise NotAnAmount(f"{currency!r} is no currency")
    if code in THREE_DECIMAL:
        raise NotAnAmount(
            f"{code} has three decimal places; only currencies with none or two are supported"
        )
    return code


def smallest_unit(currency: str) -> int:
    """Return what the currency's smallest amount is sent as: 100 where hundredths are always zeros."""
    return 100 if currency in TWO_ZEROS else 1


def amount_text(amount: Any, currency: str) -> str:
    """Return an amount of Stripe in major units.

    Args:
        amount: A whole number in Stripe's smallest unit.
        currency: The currency, in any case.

    Raises:
        NotAnAmount: The amount is not a whole number, or the currency cannot have it.
    """
    code = currency_code(currency)
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise NotAnAmount(f"{amount!r} is not a whole number of {code}'s smallest unit")
    if code in ZERO_DECIMAL:
        return str(amount)
    if code in TWO_ZEROS:
        if amount % 100:
            raise NotAnAmount(
                f"{amount} is no amount in {code}: Stripe sends {code} in hundredths, which are"
                " always zeros"
            )
        return str(amount // 100)
    sign, digits = ("-" if amount < 0 else ""), f"{abs(amount):03d}"
    return f"{sign}{digits[:-2]}.{digits[-2:]}"


def percent_text(percent: Any) -> str:
    """Return a percentage without trailing zeros.

    Args:
        percent: A number read from JSON as a decimal or whole number.

    Raises:
        NotAnAmount: The number is not a percentage above 0 and up to 100 with at most four decimal
            places.
    """
    if isinstance(percent, bool) or not isinstance(percent, int | Decimal):
        raise NotAnAmount(f"{percent!r} is no percentage")
    value = Decimal(percent)
    if not 0 < value <= 100:
        raise NotAnAmount(f"{value} is no percentage above 0 and up to 100")
    if value != value.quantize(Decimal("0.0001")):
        raise NotAnAmount(f"{value} has more than four decimal places")
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
