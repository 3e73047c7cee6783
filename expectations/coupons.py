"""What is checked in a batch of coupons beyond its columns: that the columns fit each other."""

import pandas as pd

from expectations.building import Contract, contract, holds, number_name, places

FEED = contract("coupons")
PERCENT = number_name(FEED.column("percent_off"))
ONE_PERCENT = 10 ** (places(FEED.column("percent_off")) or 0)
AMOUNTS = {"percent_off": "percent_off", "amount_off": "amount_off", "credit": "credit_amount"}
DURATIONS = ("duration_months", "duration_invoices")


def derive(rows: pd.DataFrame) -> pd.DataFrame:
    """Add columns for statements about a row: 1 if true, else 0.

    `amount_fits`: exactly the amount of the discount type is given. `currency_fits`: a dollar-off or
    credit coupon has a currency. `duration_fits`: a repeating coupon has exactly one length, any
    other has none. `is_fraction_free`: the percentage is not between 0 and 1; empty without one.
    """
    absent = pd.Series([None] * len(rows), index=rows.index, dtype=object)
    given = {
        name: rows.get(name, absent).notna() for name in (*AMOUNTS.values(), *DURATIONS, "currency")
    }
    kind = rows["discount_type"]
    amount_fits = pd.Series(True, index=rows.index)
    for discount_type, column in AMOUNTS.items():
        amount_fits &= given[column] == (kind == discount_type)
    lengths = given[DURATIONS[0]].astype("int64") + given[DURATIONS[1]].astype("int64")
    derived = {
        "amount_fits": amount_fits,
        "currency_fits": given["currency"] | ~kind.isin(["amount_off", "credit"]),
        "duration_fits": lengths == (rows["duration"] == "repeating").astype("int64"),
    }
    percent = rows.get(PERCENT, absent).astype("Int64")
    return rows.assign(
        **{name: holds_.astype("int64") for name, holds_ in derived.items()},
        is_fraction_free=((percent <= 0) | (percent >= ONE_PERCENT)).astype("Int64"),
    )


COUPONS = Contract(
    feed=FEED,
    derive=derive,
    more_rows=(
        holds("amount_fits", "discount_type_has_its_amount_only", ["discount_type"]),
        holds("currency_fits", "amount_has_a_currency", ["discount_type"]),
        holds("duration_fits", "repeating_has_one_length", ["duration"]),
        holds("is_fraction_free", "percent_off_is_a_percentage_not_a_fraction", ["percent_off"]),
    ),
)
