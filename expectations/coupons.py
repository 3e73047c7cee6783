"""What is checked in a batch of coupons beyond its columns: that the columns fit each other."""

import pandas as pd

from expectations.building import Contract, at_least, contract, holds

AMOUNTS = {"percent_off": "percent_off", "amount_off": "amount_off", "credit": "credit_amount"}
DURATIONS = ("duration_months", "duration_invoices")


def derive(rows: pd.DataFrame) -> pd.DataFrame:
    """Add three columns for statements about a row: 1 if true, else 0.

    `amount_fits`: exactly the amount of the discount type is given. `currency_fits`: a dollar-off or
    credit coupon has a currency. `duration_fits`: a repeating coupon has exactly one length, any
    other has none.
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
    return rows.assign(**{name: holds_.astype("int64") for name, holds_ in derived.items()})


FEED = contract("coupons")
COUPONS = Contract(
    feed=FEED,
    derive=derive,
    more_rows=(
        holds("amount_fits", "discount_type_has_its_amount_only", ["discount_type"]),
        holds("currency_fits", "amount_has_a_currency", ["discount_type"]),
        holds("duration_fits", "repeating_has_one_length", ["duration"]),
        at_least(FEED.column("percent_off"), 1, "percent_off_is_a_percentage_not_a_fraction"),
    ),
)
