"""Price lists, rounding and sales tax of the sample's billing system.

The cost of a period before any coupon belongs here. Amounts are whole minor units of the currency;
prices per monthly tracked user (MTU) are thousandths of a minor unit, so 0.012 dollars is 1,200.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class PriceList:
    """What one plan costs in one currency.

    Attributes:
        base: Minor units for one month.
        tiers: (MTUs from which the price applies, thousandths of a minor unit per MTU), ascending;
            below the first, MTUs are included.
    """

    base: int
    tiers: tuple[tuple[int, int], ...]

    def overage(self, mtus: int) -> int:
        """Return the minor units for one month's MTUs above those included, rounded once (R0)."""
        thousandths = 0
        upper = mtus
        for lower, price in reversed(self.tiers):
            if upper > lower:
                thousandths += (upper - lower) * price
                upper = lower
        return (thousandths + 500) // 1000


TEAM: Final = "team"
BUSINESS: Final = "business"

EXPONENTS: Final = {"USD": 2, "EUR": 2, "GBP": 2, "JPY": 0}

PRICES: Final = {
    (TEAM, "USD"): PriceList(120_00, ((10_000, 1_200), (25_000, 1_100), (100_000, 1_000))),
    (TEAM, "EUR"): PriceList(110_00, ((10_000, 1_100), (25_000, 1_000), (100_000, 900))),
    (TEAM, "GBP"): PriceList(96_00, ((10_000, 960), (25_000, 880), (100_000, 800))),
    (TEAM, "JPY"): PriceList(18_000, ((10_000, 1_800), (25_000, 1_650), (100_000, 1_500))),
    (BUSINESS, "USD"): PriceList(1_500_00, ((150_000, 900),)),
    (BUSINESS, "EUR"): PriceList(1_400_00, ((150_000, 850),)),
    (BUSINESS, "GBP"): PriceList(1_200_00, ((150_000, 720),)),
    (BUSINESS, "JPY"): PriceList(220_000, ((150_000, 1_300),)),
}

# Thousandths of a percent: some American states tax software, most do not; elsewhere it is VAT.
TAX_RATES: Final = {
    "USD": (0, 0, 0, 0, 0, 0, 8_875, 6_250, 10_100, 6_000),
    "EUR": (19_000, 21_000, 0),
    "GBP": (20_000,),
    "JPY": (10_000,),
}


def rounded_share(amount: int, numerator: int, denominator: int) -> int:
    """Return amount × numerator ÷ denominator, half away from zero; none may be negative (R0)."""
    return (2 * amount * numerator + denominator) // (2 * denominator)


def money_text(amount: int, exponent: int) -> str:
    """Return minor units as a decimal in major units, with the decimals of the currency."""
    if exponent == 0:
        return str(amount)
    if amount < 0:
        return "-" + money_text(-amount, exponent)
    return f"{amount // 100}.{amount % 100:02d}"
