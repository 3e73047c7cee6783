"""The five marts by pandas, NumPy and Arrow: whole columns at a time, integers throughout.

As someone who knows these libraries well would write it: data as large as the invoices stay in
Arrow's memory or in flat arrays, rows are named by position instead of by text, and the only loops are
over the positions in which discounts apply and over the ranks of credit grants, of which there are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.bench.programs.contract import COUNTED_STATUSES, RESULTS, command, source, target

Whole = npt.NDArray[np.int64]
Truth = npt.NDArray[np.bool_]
Instants = npt.NDArray[np.datetime64]
Texts = Any  # an Arrow array of text

_AMOUNT = pa.decimal128(18, 2)
_ENTRY_TYPES = ("grant", "draw", "expire", "forfeit")
_MONTHS = 2**18  # more than there are
_SAFE = np.int64(2) ** 61  # products below it can be doubled in 64 bits


@dataclass(frozen=True)
class Invoices:
    """The counted invoices (R1), in no order; a row is named by its position.

    Attributes:
        table: All their columns, in Arrow's memory.
        issued_at: When each was issued.
        list_minor: Its list amount.
        billed_discount_minor: Its discount as billed.
        billed_credit_minor: Its credit as billed.
        scale: Hundredths per minor unit: what a published amount is in.
    """

    table: Any
    issued_at: Instants
    list_minor: Whole
    billed_discount_minor: Whole
    billed_credit_minor: Whole
    scale: Whole

    def texts(self, name: str, rows: Whole) -> Texts:
        """A column of text at some rows."""
        return self.table[name].take(pa.array(rows)).combine_chunks()


def main(inputs: Path, outputs: Path, as_of: date) -> None:
    """Read the inputs, calculate, write the results.

    Args:
        inputs: Folder of the Parquet files to read.
        outputs: Folder that gets the Parquet files.
        as_of: Last day whose events count.
    """
    end = np.datetime64(as_of + timedelta(days=1), "us")
    redemptions = redemptions_in_force(inputs, end)
    invoices = read_invoices(inputs, end)
    rows, of = covered(invoices, redemptions)
    kinds = redemptions["discount_type"].to_numpy()[of]

    is_discount = kinds != "credit"
    applications = applied(invoices, redemptions, rows[is_discount], of[is_discount])
    percent_off, amount_off = (
        totals(len(invoices.issued_at), part["row"].to_numpy(), part["discount"].to_numpy())
        for part in (
            applications[applications["is_percent"]],
            applications[~applications["is_percent"]],
        )
    )
    write_applications(outputs, invoices, redemptions, applications)
    by_percent = applications.loc[applications["is_percent"], ["row", "of", "discount"]]
    del applications

    grants = scheduled_grants(redemptions, end)
    is_credit = kinds == "credit"
    draws = drawn(invoices, grants, rows[is_credit], of[is_credit], percent_off + amount_off)
    entries = posted(grants, draws)
    write_ledger(outputs, invoices, grants, entries)
    write_burndown(outputs, grants, entries, as_of)

    is_percent = kinds == "percent_off"
    rows, of = rows[is_percent], of[is_percent]
    write_variance(outputs, invoices, redemptions, rows, of, percent_off, by_percent, as_of)
    write_charges(outputs, invoices, percent_off, amount_off, draws)


# ------------------------------------------------------------------------- which redemptions count


def redemptions_in_force(inputs: Path, end: np.datetime64) -> pd.DataFrame:
    """R2 to R4: the honoured redemptions that are ever in force, derived ones too, with their coupons."""

    def read(name: str, columns: list[str]) -> pd.DataFrame:
        return pd.read_parquet(
            source(inputs, name), columns=columns, dtype_backend="numpy_nullable"
        )

    coupons = read(
        "coupons",
        [
            *("coupon_id", "discount_type", "percent_off_e4", "amount_off_minor", "amount_off_per"),
            *("credit_minor", "credit_period_months", "credit_max_periods", "credit_priority"),
            *("currency", "applies_to_plan", "applies_to_interval", "duration", "duration_months"),
            *("duration_invoices", "redeem_by", "max_redemptions", "requires_no_prior_coupon"),
            *("follow_up_coupon_id", "minor_per_major"),
        ],
    ).rename(columns={"currency": "coupon_currency"})
    workspaces = read("workspaces", ["workspace_id"])
    recorded = read(
        "redemptions",
        [
            *("redemption_id", "coupon_id", "workspace_id", "user_id", "redeemed_at", "starts_at"),
            *("ends_at", "revoked_at", "eligible_until", "application_order"),
        ],
    )
    # R0: a redemption made later is not known yet.
    recorded = recorded[recorded["redeemed_at"].to_numpy() < end]
    recorded = recorded.sort_values(["redeemed_at", "redemption_id"], ignore_index=True)
    recorded["started_at"] = recorded["starts_at"].fillna(recorded["redeemed_at"])
    joined = recorded.merge(coupons, on="coupon_id", how="left")
    joined["is_honoured"] = honoured(joined, coupons, workspaces)
    set_window(joined)
    derived = follow_ups(joined, coupons, end)
    joined["promotion"] = promotions(joined, coupons, end)
    both = pd.concat([joined[joined["is_honoured"]], derived], ignore_index=True)
    never_ends, ends_later = both["ended_at"].isna(), both["ended_at"] > both["started_at"]
    return both[never_ends | ends_later].reset_index(drop=True)


def honoured(joined: pd.DataFrame, coupons: pd.DataFrame, workspaces: pd.DataFrame) -> pd.Series:
    """R2: whether none of the seven reasons refuses a redemption; they come in their order."""
    has_user = joined["user_id"].notna()
    is_unknown = ~joined["coupon_id"].isin(coupons["coupon_id"])
    is_unknown |= ~joined["workspace_id"].isin(workspaces["workspace_id"])
    is_late = joined["redeemed_at"] > joined["redeem_by"]
    is_again = joined.groupby(["coupon_id", "workspace_id"], sort=False).cumcount() > 0
    is_again |= has_user & (
        joined.groupby(["coupon_id", "user_id"], sort=False, dropna=False).cumcount() > 0
    )

    # Reason 6 ignores redemptions of the coupon itself and of coupons that it follows.
    place = pd.Series(joined.index, index=joined.index)
    keys = joined[["workspace_id", "user_id"]].assign(place=place)
    follows = (joined["follow_up_coupon_id"] != joined["coupon_id"]).fillna(False).to_numpy(bool)
    seen = pd.concat(
        [
            keys.assign(for_coupon=joined["coupon_id"], is_own=True),
            keys.assign(for_coupon=joined["follow_up_coupon_id"], is_own=False)[follows],
        ]
    ).sort_values("place", kind="stable", ignore_index=True)
    has_prior = pd.Series(False, index=joined.index)
    for key, counts in (("workspace_id", None), ("user_id", has_user)):
        overlooked = seen.groupby(["for_coupon", key], sort=False, dropna=False).cumcount()
        own = overlooked[seen["is_own"]].to_numpy()
        earlier = joined.groupby(key, sort=False, dropna=False).cumcount() > own
        has_prior |= earlier if counts is None else earlier & counts
    has_prior &= joined["requires_no_prior_coupon"].fillna(False).astype(bool)

    is_fine = ~(is_unknown | is_late | is_again | has_prior)
    uses = is_fine.astype("int64").groupby(joined["coupon_id"], sort=False).cumsum()
    is_over = (uses > joined["max_redemptions"]).fillna(False).astype(bool)
    return is_fine & ~is_over


def set_window(redemptions: pd.DataFrame) -> None:
    """R3: add the natural end, the end, and what ended it, to redemptions with their coupons."""
    started_at = redemptions["started_at"].to_numpy("M8[us]")
    given = redemptions["ends_at"].to_numpy("M8[us]")
    by_duration = add_months(started_at, months_of(redemptions["duration_months"]))
    grants = redemptions["credit_period_months"] * redemptions["credit_max_periods"]
    by_grants = add_months(
        started_at, months_of(grants.where(redemptions["discount_type"] == "credit"))
    )
    natural = np.where(np.isnat(given), by_duration, given)
    natural = np.where(np.isnat(natural), by_grants, natural)
    revoked = redemptions["revoked_at"].to_numpy("M8[us]")
    eligible = redemptions["eligible_until"].to_numpy("M8[us]")
    ended_at = np.fmin(np.fmin(natural, revoked), eligible)
    redemptions["natural_end_at"], redemptions["ended_at"] = natural, ended_at
    redemptions["is_by_expiry"] = ended_at == natural


def handed_over(joined: pd.DataFrame, coupons: pd.DataFrame, end: np.datetime64) -> pd.Series:
    """R4: whether a redemption ran out and hands over to a follow-up."""
    follow_up = joined["follow_up_coupon_id"]
    hands_over: pd.Series = (
        joined["is_honoured"]
        & joined["is_by_expiry"]
        & (joined["ended_at"] > joined["started_at"])
        & (joined["ended_at"] < end)
        & follow_up.isin(coupons["coupon_id"])
        & (follow_up != joined["coupon_id"]).fillna(False)
    )
    return hands_over


def promotions(joined: pd.DataFrame, coupons: pd.DataFrame, end: np.datetime64) -> pd.Series:
    """R4: the redemption each follows, of several the first at whose end it starts, else the first.

    One that follows none begins a promotion itself. Follow-ups have no follow-ups.
    """
    honoured_ones = joined[joined["is_honoured"]]
    before = joined.loc[
        handed_over(joined, coupons, end),
        ["workspace_id", "follow_up_coupon_id", "redemption_id", "ended_at"],
    ]
    pairs = (
        before.rename(columns={"follow_up_coupon_id": "coupon_id"})
        .rename_axis("before")
        .reset_index()
        .merge(
            honoured_ones[["workspace_id", "coupon_id", "started_at"]]
            .rename_axis("place")
            .reset_index(),
            on=["workspace_id", "coupon_id"],
        )
    )
    pairs = pairs[pairs["before"] < pairs["place"]]
    is_late = (pairs["ended_at"] != pairs["started_at"]).fillna(True).astype(bool)
    firsts = (
        pairs.assign(is_late=is_late)
        .sort_values(["place", "is_late", "before"])
        .drop_duplicates("place")
        .set_index("place")["redemption_id"]
    )
    return firsts.reindex(joined.index).fillna(joined["redemption_id"])


def follow_ups(joined: pd.DataFrame, coupons: pd.DataFrame, end: np.datetime64) -> pd.DataFrame:
    """R4: the honoured redemptions among those derived from redemptions that ran out."""
    follow_up = joined["follow_up_coupon_id"]
    hands_over = handed_over(joined, coupons, end)
    due = joined.loc[hands_over, ["redemption_id", "workspace_id", "user_id"]].assign(
        coupon_id=follow_up[hands_over],
        started_at=joined["ended_at"][hands_over],
    )
    due["promotion"] = due["redemption_id"]
    due["redemption_id"] += "~follow-up"
    due = due[~_is_among(due, joined, ["coupon_id", "workspace_id"])]
    due = due.sort_values(["started_at", "redemption_id"], ignore_index=True)
    is_again = due.groupby(["coupon_id", "workspace_id"], sort=False).cumcount() > 0
    is_again |= due["user_id"].notna() & (
        _is_among(due, joined, ["coupon_id", "user_id"])
        | (due.groupby(["coupon_id", "user_id"], sort=False, dropna=False).cumcount() > 0)
    )
    derived = due[~is_again].merge(coupons, on="coupon_id")
    derived["redeemed_at"] = derived["started_at"]
    derived["application_order"] = pd.array([pd.NA] * len(derived), "Int64")
    for column in ("ends_at", "revoked_at", "eligible_until"):
        derived[column] = np.full(len(derived), "NaT", "M8[us]")
    set_window(derived)
    return derived


def _is_among(some: pd.DataFrame, others: pd.DataFrame, keys: list[str]) -> pd.Series:
    """Whether others have a row with the same keys."""
    found = some[keys].merge(others[keys].drop_duplicates(), how="left", indicator=True)
    return pd.Series((found["_merge"] == "both").to_numpy(), index=some.index)


# -------------------------------------------------------------------------- which invoices they cover


def read_invoices(inputs: Path, end: np.datetime64) -> Invoices:
    """R1: the invoices that count."""
    table = pq.read_table(
        source(inputs, "invoices"),
        columns=[
            *("invoice_id", "workspace_id", "plan", "billing_interval", "currency", "status"),
            *("period_start", "period_end", "issued_at", "mtus", "minor_per_major", "list_minor"),
            *("discount_minor", "credit_minor", "tax_minor", "total_minor"),
        ],
        filters=(pc.field("status").isin(COUNTED_STATUSES))
        & (pc.field("issued_at") < pa.scalar(end, pa.timestamp("us"))),
    )
    for name in ("plan", "billing_interval", "currency", "status"):
        encoded = table[name].dictionary_encode().unify_dictionaries()
        table = table.set_column(table.schema.get_field_index(name), name, encoded)
    return Invoices(
        table=table,
        issued_at=table["issued_at"].to_numpy(),
        list_minor=table["list_minor"].to_numpy(),
        billed_discount_minor=table["discount_minor"].to_numpy(),
        billed_credit_minor=table["credit_minor"].to_numpy(),
        scale=100 // table["minor_per_major"].to_numpy(),
    )


def covered(invoices: Invoices, redemptions: pd.DataFrame) -> tuple[Whole, Whole]:
    """R5, R3: every pair of an invoice and a redemption that covers it, as two arrays of positions."""
    codes, workspace_ids = pd.factorize(redemptions["workspace_id"])
    found = pc.index_in(
        invoices.table["workspace_id"].combine_chunks(),
        value_set=pa.array(workspace_ids, invoices.table.schema.field("workspace_id").type),
    )
    is_candidate = found.is_valid().to_numpy(zero_copy_only=False)
    candidates = pd.DataFrame(
        {
            "workspace": found.drop_null().to_numpy(),
            "row": np.flatnonzero(is_candidate),
        }
    )
    pairs = candidates.merge(
        pd.DataFrame({"workspace": codes.astype(np.int32), "of": np.arange(len(redemptions))}),
        on="workspace",
    )
    rows, of = pairs["row"].to_numpy(), pairs["of"].to_numpy()
    issued_at = invoices.issued_at[rows]
    ended_at = redemptions["ended_at"].to_numpy("M8[us]")[of]
    is_covered = redemptions["started_at"].to_numpy("M8[us]")[of] <= issued_at
    is_covered &= np.isnat(ended_at) | (ended_at > issued_at)
    rows, of = rows[is_covered], of[is_covered]
    currencies = redemptions["coupon_currency"].where(redemptions["discount_type"] != "percent_off")
    for name, wanted in (
        ("plan", redemptions["applies_to_plan"]),
        ("billing_interval", redemptions["applies_to_interval"]),
        ("currency", currencies),
    ):
        of_invoice, of_redemption = _same_codes(invoices.table[name], wanted)
        is_right = (of_redemption[of] < 0) | (of_redemption[of] == of_invoice[rows])
        rows, of = rows[is_right], of[is_right]
    return _within_limits(invoices, redemptions, rows, of)


def _same_codes(column: Texts, wanted: pd.Series) -> tuple[Whole, Whole]:
    """Codes of an encoded column, and the code that each redemption asks for; -1 if it asks for none."""
    encoded = column.combine_chunks()
    values = pd.Index(encoded.dictionary.to_pylist())
    found = values.get_indexer(wanted)
    found[(found < 0) & wanted.notna().to_numpy()] = len(values)  # no invoice has it
    found[wanted.isna().to_numpy()] = -1
    return encoded.indices.to_numpy(), found.astype(np.int64)


def _within_limits(
    invoices: Invoices, redemptions: pd.DataFrame, rows: Whole, of: Whole
) -> tuple[Whole, Whole]:
    """R3: keep only the first n invoices of a redemption limited to n; invoices of zero do not count."""
    limits = redemptions["duration_invoices"].where(redemptions["duration"] != "once", 1)
    limit = limits.fillna(-1).to_numpy(np.int64)[of]
    is_limited = limit > 0
    chosen = np.flatnonzero(is_limited)
    chosen = chosen[_in_billing_order(invoices, rows[chosen], of[chosen])]
    uses = (invoices.list_minor[rows[chosen]] > 0).astype(np.int64)
    before = running(uses, starts_of(of[chosen])) - uses
    kept = np.concatenate([np.flatnonzero(~is_limited), chosen[before < limit[chosen]]])
    return rows[kept], of[kept]


def _in_billing_order(invoices: Invoices, rows: Whole, *before: Whole) -> Whole:
    """The order by some numbers, then by when invoices were issued, then by their ids."""
    columns = {f"key_{number}": pa.array(key) for number, key in enumerate(before)}
    columns["issued_at"] = pa.array(invoices.issued_at[rows])
    columns["invoice_id"] = invoices.texts("invoice_id", rows)
    order = pc.sort_indices(
        pa.table(columns), sort_keys=[(name, "ascending") for name in columns]
    ).to_numpy()
    return np.asarray(order, np.int64)


# ----------------------------------------------------------------------------------------- discounts


def applied(invoices: Invoices, redemptions: pd.DataFrame, rows: Whole, of: Whole) -> pd.DataFrame:
    """R6: the discounts that take something, each from what those before it left."""
    priority = np.empty(len(redemptions), np.int64)
    priority[
        redemptions.sort_values(
            ["application_order", "redeemed_at", "redemption_id"], na_position="last"
        ).index.to_numpy()
    ] = np.arange(len(redemptions))
    order = np.lexsort((priority[of], rows))
    rows, of = rows[order], of[order]
    percent = redemptions["percent_off_e4"].fillna(-1).to_numpy(np.int64)[of]
    amount = redemptions["amount_off_minor"].fillna(0).to_numpy(np.int64)[of]
    is_monthly = (redemptions["amount_off_per"] == "month").fillna(False).to_numpy(bool)[of]
    period_start, period_end = (
        invoices.table[name].take(pa.array(rows[is_monthly])).to_numpy().astype("M8[us]")
        for name in ("period_start", "period_end")
    )
    months = period_end.astype("M8[M]") - period_start.astype("M8[M]")
    is_beyond = add_months(period_start, months) > period_end
    amount[is_monthly] *= np.maximum(months.astype(np.int64) - is_beyond, 1)

    starts = starts_of(rows)
    sizes = np.diff(np.append(starts, len(rows)))
    remaining = invoices.list_minor[rows[starts]]
    base, discount = np.empty_like(rows), np.empty_like(rows)
    for position in range(int(sizes.max(initial=0))):
        group = np.flatnonzero(sizes > position)
        at = starts[group] + position
        base[at] = remaining[group]
        discount[at] = np.where(
            percent[at] >= 0,
            percentage(base[at], np.maximum(percent[at], 0)),
            np.minimum(amount[at], base[at]),
        )
        remaining[group] -= discount[at]
    taken = np.flatnonzero(discount > 0)
    rank = running(np.ones_like(taken), starts_of(rows[taken]))
    return pd.DataFrame(
        {
            "row": rows[taken],
            "of": of[taken],
            "rank": rank,
            "is_percent": percent[taken] >= 0,
            "base": base[taken],
            "discount": discount[taken],
        }
    )


def percentage(base: Whole, percent_e4: Whole) -> Whole:
    """R0, R6: base x percent / 100, rounded half away from zero; neither is negative.

    The base is split so that no product outgrows 64 bits.
    """
    whole, rest = np.divmod(base, 1_000_000)
    return whole * percent_e4 + (2 * rest * percent_e4 + 1_000_000) // 2_000_000


# -------------------------------------------------------------------------------------------- credit


def scheduled_grants(redemptions: pd.DataFrame, end: np.datetime64) -> pd.DataFrame:
    """R7: the grants issued, in the order in which a workspace draws on them, with their rank there."""
    credit = redemptions[redemptions["discount_type"] == "credit"]
    is_yearly = credit["credit_period_months"].notna()
    counts = credit["credit_max_periods"].where(is_yearly, 1).to_numpy(np.int64)
    grants = credit.loc[credit.index.repeat(counts)].rename_axis("of").reset_index()
    period = running(np.ones(len(grants), np.int64), starts_of(grants["of"].to_numpy()))
    started_at = grants["started_at"].to_numpy("M8[us]")
    ended_at = grants["ended_at"].to_numpy("M8[us]")
    months = grants["credit_period_months"]
    grants["grant_period"] = period
    starts = add_months(started_at, months_of(months.fillna(0) * (period - 1)))
    period_ended_at = add_months(started_at, months_of(months * period))
    redeem_by = grants["redeem_by"].to_numpy("M8[us]")
    is_granted = (period == 1) | (
        (np.isnat(ended_at) | (starts < ended_at)) & (np.isnat(redeem_by) | (starts <= redeem_by))
    )
    ends = np.fmin(period_ended_at, ended_at)
    grants["grant_started_at"], grants["grant_ended_at"] = starts, ends
    grants["scheduled_end_at"] = np.fmin(
        period_ended_at, grants["natural_end_at"].to_numpy("M8[us]")
    )
    grants["has_ended"] = ends < end
    is_cut_short = ~grants["is_by_expiry"] & (
        np.isnat(period_ended_at) | (ended_at < period_ended_at)
    )
    grants["ending_type"] = np.where(is_cut_short & ~np.isnat(ended_at), "forfeit", "expire")
    grants["grant_id"] = grants["redemption_id"] + "#" + grants["grant_period"].astype("string")
    issued: pd.DataFrame = grants[is_granted & (starts < end)].sort_values(
        [
            *("workspace_id", "credit_priority", "scheduled_end_at", "grant_started_at"),
            "grant_id",
        ],
        na_position="last",
        ignore_index=True,
    )
    issued["rank"] = issued.groupby("workspace_id", sort=False).cumcount()
    return issued


def drawn(
    invoices: Invoices, grants: pd.DataFrame, rows: Whole, of: Whole, discount: Whole
) -> pd.DataFrame:
    """R7, R9: what each grant gives to each invoice it covers: as it should be, and as billed.

    Returns:
        Per grant and invoice: `grant` and `row`, their positions; `draw` and `balance` before it, and
        the same as billed; a grant's rows are adjacent, in the order of its invoices.
    """
    pairs = pd.DataFrame({"of": of, "row": rows}).merge(
        pd.DataFrame({"of": grants["of"], "grant": np.arange(len(grants))}), on="of"
    )
    grant, row = pairs["grant"].to_numpy(), pairs["row"].to_numpy()
    issued_at = invoices.issued_at[row]
    ended_at = grants["grant_ended_at"].to_numpy("M8[us]")[grant]
    is_valid = grants["grant_started_at"].to_numpy("M8[us]")[grant] <= issued_at
    is_valid &= np.isnat(ended_at) | (ended_at > issued_at)
    grant, row = grant[is_valid], row[is_valid]
    rank = grants["rank"].to_numpy()[grant]
    order = _in_billing_order(invoices, row, rank, grant)
    grant, row, rank = grant[order], row[order], rank[order]
    granted = grants["credit_minor"].to_numpy(np.int64)[grant]
    unique, place = np.unique(row, return_inverse=True)
    found = {"grant": grant, "row": row}
    for suffix, wanted in (
        ("", invoices.list_minor[unique] - discount[unique]),
        ("_billed", invoices.billed_credit_minor[unique]),
    ):
        left = wanted.copy()
        draw, balance = np.empty_like(row), np.empty_like(row)
        # One fixed order: all grants of a rank take their part, then those of the next from the rest.
        bounds = np.append(starts_of(rank), len(rank))
        for first, last in pairwise(bounds):
            part = slice(first, last)
            asked = left[place[part]]
            before = running(asked, starts_of(grant[part])) - asked
            balance[part] = np.maximum(granted[part] - before, 0)
            draw[part] = np.minimum(asked, balance[part])
            left[place[part]] -= draw[part]
        found[f"draw{suffix}"], found[f"balance{suffix}"] = draw, balance
    return pd.DataFrame(found)


def posted(grants: pd.DataFrame, draws: pd.DataFrame) -> pd.DataFrame:
    """R7: the ledger: what each grant was, gave, and lost at its end; each with the balance after it."""
    taken = draws[draws["draw"] > 0]
    credit = grants["credit_minor"].to_numpy(np.int64)
    given = totals(len(grants), taken["grant"].to_numpy(), taken["draw"].to_numpy())
    ended = np.flatnonzero(grants["has_ended"].to_numpy() & (credit > given))
    is_forfeit = (grants["ending_type"] == "forfeit").to_numpy()[ended]
    none, all_of_them = np.full(len(grants), -1), np.arange(len(grants))
    return pd.DataFrame(
        {
            "grant": np.concatenate([all_of_them, taken["grant"], ended]),
            "kind": np.concatenate(
                [np.zeros_like(none), np.ones(len(taken), np.int64), np.where(is_forfeit, 3, 2)]
            ),
            "row": np.concatenate([none, taken["row"], none[: len(ended)]]),
            "signed": np.concatenate([credit, -taken["draw"], given[ended] - credit[ended]]),
            "balance": np.concatenate(
                [credit, taken["balance"] - taken["draw"], np.zeros(len(ended), np.int64)]
            ),
        }
    )


# ----------------------------------------------------------------------------------------- the marts


def write_charges(
    outputs: Path, invoices: Invoices, percent_off: Whole, amount_off: Whole, draws: pd.DataFrame
) -> None:
    """R8, R9: what should have been charged beside what was."""
    count, row = len(invoices.issued_at), draws["row"].to_numpy()
    credit = totals(count, row, draws["draw"].to_numpy())
    served = totals(count, row, draws["draw_billed"].to_numpy())
    available = totals(count, row, draws["balance_billed"].to_numpy())
    discount = percent_off + amount_off
    billed_discount, billed_credit = invoices.billed_discount_minor, invoices.billed_credit_minor
    could = np.minimum(invoices.list_minor - billed_discount, available)
    credit_variance = billed_credit - served - np.maximum(could - served, 0)
    discount_variance = billed_discount - discount
    both = discount_variance + credit_variance
    differs = (np.abs(discount_variance) > 1) | (np.abs(credit_variance) > 1)
    status = np.where(differs, np.sign(both), 0) + 1
    table = invoices.table

    def amount(minor: Whole) -> Any:
        return decimals(minor * invoices.scale)

    write(
        outputs,
        "fct_discounted_charges",
        {
            **{name: table[name] for name in table.schema.names if not name.endswith("_minor")},
            "billing_month": first_days(invoices.issued_at.astype("M8[M]")),
            "list_amount": amount(invoices.list_minor),
            "percent_off_amount": amount(percent_off),
            "amount_off_amount": amount(amount_off),
            "discount_amount": amount(discount),
            "credit_amount": amount(credit),
            "net_amount": amount(invoices.list_minor - discount - credit),
            "tax_amount": amount(table["tax_minor"].to_numpy()),
            "billed_discount_amount": amount(billed_discount),
            "billed_credit_amount": amount(billed_credit),
            "billed_net_amount": amount(invoices.list_minor - billed_discount - billed_credit),
            "billed_total_amount": amount(table["total_minor"].to_numpy()),
            "discount_variance_amount": amount(discount_variance),
            "credit_variance_amount": amount(credit_variance),
            "audit_status": pa.DictionaryArray.from_arrays(
                status.astype(np.int8), ["under_discounted", "matched", "over_discounted"]
            ),
        },
    )


def write_applications(
    outputs: Path, invoices: Invoices, redemptions: pd.DataFrame, applications: pd.DataFrame
) -> None:
    """R6: one row per discount that took something."""
    row, of = applications["row"].to_numpy(), applications["of"].to_numpy()
    base, discount = applications["base"].to_numpy(), applications["discount"].to_numpy()
    scale = invoices.scale[row]
    write(
        outputs,
        "fct_discount_applications",
        {
            "invoice_id": invoices.texts("invoice_id", row),
            **{
                name: repeated(redemptions[name], of)
                for name in ("redemption_id", "coupon_id", "discount_type")
            },
            "currency": invoices.texts("currency", row),
            "application_rank": pa.array(applications["rank"].to_numpy()),
            "base_amount": decimals(base * scale),
            "discount_amount": decimals(discount * scale),
            "remaining_amount": decimals((base - discount) * scale),
        },
    )


def write_ledger(
    outputs: Path, invoices: Invoices, grants: pd.DataFrame, entries: pd.DataFrame
) -> None:
    """R7: one row per entry."""
    grant, row = entries["grant"].to_numpy(), entries["row"].to_numpy()
    is_draw = row >= 0
    of_invoice = pa.array(np.where(is_draw, row, 0), mask=~is_draw)
    invoice_id = invoices.table["invoice_id"].take(of_invoice).combine_chunks()
    kind = pa.array(_ENTRY_TYPES).take(pa.array(entries["kind"].to_numpy()))
    grant_id = repeated(grants["grant_id"], grant).cast(pa.string())
    entry_id = pc.binary_join_element_wise(grant_id, kind, ":")
    scale = 100 // grants["minor_per_major"].to_numpy(np.int64)[grant]
    starts, ends = (
        grants[name].to_numpy("M8[us]")[grant] for name in ("grant_started_at", "grant_ended_at")
    )
    effective_at = np.where(entries["kind"].to_numpy() == 0, starts, ends)
    effective_at[is_draw] = invoices.issued_at[row[is_draw]]
    entries["effective_at"] = effective_at
    write(
        outputs,
        "fct_credit_ledger",
        {
            "entry_id": pc.if_else(
                pa.array(is_draw),
                pc.binary_join_element_wise(entry_id, invoice_id, ":"),
                entry_id,
            ),
            "grant_id": grant_id,
            **{
                name: repeated(grants[column], grant)
                for name, column in (
                    ("redemption_id", "redemption_id"), ("coupon_id", "coupon_id"),
                    ("workspace_id", "workspace_id"), ("currency", "coupon_currency"),
                )
            },
            "entry_type": kind,
            "invoice_id": invoice_id,
            "effective_at": pa.array(effective_at),
            "effective_month": first_days(effective_at.astype("M8[M]")),
            "amount": decimals(entries["signed"].to_numpy() * scale),
            "balance_amount": decimals(entries["balance"].to_numpy() * scale),
        },
    )  # fmt: skip


def write_burndown(outputs: Path, grants: pd.DataFrame, entries: pd.DataFrame, as_of: date) -> None:
    """R7, R12: one row per grant and month, from its first to the month it ended or of the as-of date."""
    now = np.datetime64(as_of, "M")
    next_day = np.datetime64(as_of + timedelta(days=1), "M")
    first = grants["grant_started_at"].to_numpy("M8[M]")
    has_ended = grants["has_ended"].to_numpy()
    last = np.where(has_ended, grants["grant_ended_at"].to_numpy("M8[M]"), now)
    grant, starts, months = spread(first, last)
    kind = entries["kind"].to_numpy()
    at = entries["grant"].to_numpy()
    place = starts[at] + (entries["effective_at"].to_numpy("M8[M]") - first[at]).astype(np.int64)
    signed = entries["signed"].to_numpy()
    granted, drawn_, expired, forfeited = (
        totals(len(months), place[kind == number], np.abs(signed[kind == number]))
        for number in range(4)
    )
    change = granted - drawn_ - expired - forfeited
    closing = running(change, starts)

    # R12: on the last row of a grant still valid, the mean draw of the last three months that ended.
    is_recent = (months < next_day) & (months >= next_day - 3)
    recent = totals(len(grants), grant[is_recent], drawn_[is_recent])
    counted = totals(len(grants), grant[is_recent], np.ones(int(is_recent.sum()), np.int64))
    last_rows = np.append(starts[1:], len(months)) - 1
    open_ = np.flatnonzero(~has_ended & (counted > 0))
    rate = divided(recent[open_], np.ones_like(open_), counted[open_])

    scale = 100 // grants["minor_per_major"].to_numpy(np.int64)

    def amount(minor: Whole) -> Any:
        return decimals(minor * scale[grant])

    def on_last(rows: Whole, minor: Whole) -> Any:
        values, is_given = np.zeros(len(months), np.int64), np.zeros(len(months), np.bool_)
        values[last_rows[rows]], is_given[last_rows[rows]] = minor * scale[rows], True
        return decimals(values, is_given)

    write(
        outputs,
        "fct_credit_burndown_monthly",
        {
            **{
                name: repeated(grants[column], grant)
                for name, column in (
                    ("grant_id", "grant_id"), ("redemption_id", "redemption_id"),
                    ("coupon_id", "coupon_id"), ("workspace_id", "workspace_id"),
                    ("currency", "coupon_currency"),
                )
            },
            "grant_period": pa.array(grants["grant_period"].to_numpy()[grant]),
            "grant_ends_at": pa.array(
                grants["grant_ended_at"].to_numpy("M8[us]")[grant], from_pandas=True
            ),
            "burn_month": first_days(months),
            "opening_amount": amount(closing - change),
            "granted_amount": amount(granted),
            "drawn_amount": amount(drawn_),
            "expired_amount": amount(expired),
            "forfeited_amount": amount(forfeited),
            "closing_amount": amount(closing),
            "run_rate_amount": on_last(open_, rate),
        },
    )  # fmt: skip


def write_variance(
    outputs: Path,
    invoices: Invoices,
    redemptions: pd.DataFrame,
    covered_rows: Whole,
    covered_of: Whole,
    percent_off: Whole,
    applications: pd.DataFrame,
    as_of: date,
) -> None:
    """R10: one row per workspace, currency and month, from the first covered one, without gaps."""
    now = np.datetime64(as_of, "M")
    rows = np.unique(covered_rows)
    workspace_id, currency = (
        invoices.table[name].take(pa.array(rows)).combine_chunks()
        for name in ("workspace_id", "currency")
    )
    encoded = workspace_id.dictionary_encode()
    workspace = encoded.indices.to_numpy().astype(np.int64)
    workspace_ids = encoded.dictionary
    currencies = len(currency.dictionary)
    key = workspace * currencies + currency.indices.to_numpy()
    month = invoices.issued_at[rows].astype("M8[M]")
    series, of = np.unique(key, return_inverse=True)
    bounds = pd.Series(month.astype(np.int64)).groupby(of).agg(["min", "max"])
    first, last = (bounds[name].to_numpy().astype("M8[M]") for name in ("min", "max"))
    line, starts, months = spread(first, np.minimum(last + 1, now))
    place = starts[of] + (month - first[of]).astype(np.int64)
    bill = totals(len(months), place, invoices.list_minor[rows])
    given = totals(len(months), place, percent_off[rows])
    is_covered = totals(len(months), place, np.ones(len(rows), np.int64)) > 0

    pairs = pd.DataFrame(
        {
            "row": covered_rows,
            "of": covered_of,
            "series": of[np.searchsorted(rows, covered_rows)],
        }
    )
    effects = promotion_effects(invoices, redemptions, pairs, applications, now)
    at = starts[effects["series"]] + effects["month"] - first.astype(np.int64)[effects["series"]]
    is_first = np.zeros(len(months), np.bool_)
    is_first[starts] = True

    def before(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        shifted = np.roll(values, 1)
        shifted[is_first] = 0
        return shifted

    bill_before, given_before = before(bill), before(given)
    is_billed = bill > 0
    percent = np.zeros_like(bill)
    percent[is_billed] = divided(
        np.full(int(is_billed.sum()), 1_000_000), given[is_billed], bill[is_billed]
    )
    any_row = np.empty(len(series), np.int64)
    any_row[of] = rows
    scale = invoices.scale[any_row][line]

    def amount(minor: Whole) -> Any:
        return decimals(minor * scale)

    write(
        outputs,
        "fct_percent_off_variance_monthly",
        {
            "workspace_id": pa.DictionaryArray.from_arrays(
                (series // currencies)[line], workspace_ids
            ),
            "currency": pa.DictionaryArray.from_arrays(
                (series % currencies)[line], currency.dictionary
            ),
            "variance_month": first_days(months),
            "is_covered": pa.array(is_covered),
            "bill_amount": amount(bill),
            "percent_off_amount": amount(given),
            "effective_percent": decimals(percent, is_billed, pa.decimal128(9, 4)),
            "previous_bill_amount": amount(bill_before),
            "previous_percent_off_amount": amount(given_before),
            "delta_amount": amount(given - given_before),
            **{
                f"{name}_effect_amount": amount(
                    totals(len(months), at.to_numpy(), effects[name].to_numpy())
                )
                for name in ("bill", "rate", "start", "end")
            },
        },
    )


def promotion_effects(
    invoices: Invoices,
    redemptions: pd.DataFrame,
    pairs: pd.DataFrame,
    applications: pd.DataFrame,
    now: np.datetime64,
) -> pd.DataFrame:
    """R10: what the changes of each promotion are due to.

    Args:
        invoices: The counted invoices.
        redemptions: Those ever in force.
        pairs: Each invoice (`row`) with each percent-off redemption (`of`) that covers it, and its `series`
            of workspace and currency.
        applications: Their discounts that take something, by `row` and `of`.
        now: The month of the as-of date.

    Returns:
        The effects by `series` and `month`, of which several rows may be alike.
    """
    promotion = pd.factorize(redemptions["promotion"])[0]
    keys = ["promotion", "series"]
    month = invoices.issued_at[pairs["row"]].astype("M8[M]").astype(np.int64)
    pairs = pairs.assign(promotion=promotion[pairs["of"]], month=month)
    # B and D of each month, every invoice once.
    taken = pairs.merge(applications, on=["row", "of"])  # a left join would make floats of amounts
    given_once = pd.concat([pairs.assign(discount=np.int64(0)), taken], ignore_index=True)
    by_invoice = given_once.groupby([*keys, "month", "row"])["discount"].sum().reset_index()
    by_invoice["bill"] = invoices.list_minor[by_invoice["row"]]
    months = by_invoice.groupby([*keys, "month"], as_index=False)[["bill", "discount"]].sum()

    number, bill, given = (months[name].to_numpy() for name in ("month", "bill", "discount"))
    has_before = months.duplicated(keys).to_numpy()
    bill_before, given_before = np.roll(bill, 1), np.roll(given, 1)
    goes_on = has_before & (np.roll(number, 1) == number - 1)
    comes_again = has_before & ~goes_on
    goes = ~np.roll(goes_on, -1) & (number < now.astype(np.int64))
    asked = pd.DataFrame(
        {
            "promotion": np.concatenate(
                [months["promotion"][comes_again], months["promotion"][goes]]
            ),
            "month": np.concatenate([number[comes_again] - 1, number[goes] + 1]),
        }
    )
    in_force = _in_force(invoices, redemptions, promotion, pairs, asked)
    no_bill_came = np.zeros(len(months), np.bool_)
    no_bill_came[comes_again] = in_force[: comes_again.sum()]
    is_only_away = in_force[comes_again.sum() :]

    delta = np.where(goes_on, given - given_before, given)
    proportional = delta.copy()
    has_bill = goes_on & (bill_before > 0)
    proportional[has_bill] = divided(
        given_before[has_bill], (bill - bill_before)[has_bill], bill_before[has_bill]
    )
    covered_months = months[["series", "month"]].assign(
        bill=np.where(goes_on, proportional, np.where(no_bill_came, delta, 0)),
        rate=np.where(goes_on, delta - proportional, 0),
        start=np.where(goes_on | no_bill_came, 0, delta),
        end=0,
    )
    months_after = months.loc[goes, ["series"]].assign(
        month=number[goes] + 1,
        bill=np.where(is_only_away, -given[goes], 0),
        rate=0,
        start=0,
        end=np.where(is_only_away, 0, -given[goes]),
    )
    effects: pd.DataFrame = pd.concat([covered_months, months_after], ignore_index=True)
    return effects


def _in_force(
    invoices: Invoices,
    redemptions: pd.DataFrame,
    promotion: Whole,
    pairs: pd.DataFrame,
    asked: pd.DataFrame,
) -> Truth:
    """R10: whether a percent-off redemption of a promotion is in force at the end of a month.

    It starts in that month or before, ends in a later one or never, and has uses left after the invoices
    of that month and those before.
    """
    is_percent = (redemptions["discount_type"] == "percent_off").fillna(False).to_numpy(bool)
    limits = redemptions["duration_invoices"].where(redemptions["duration"] != "once", 1)
    ends = redemptions["ended_at"].to_numpy("M8[us]")
    never = np.iinfo(np.int32).max
    links = pd.DataFrame(
        {
            "promotion": promotion,
            "of": np.arange(len(redemptions)),
            "limit": limits.fillna(never).to_numpy(np.int64),
            "first": redemptions["started_at"].to_numpy("M8[M]").astype(np.int64),
            "last": np.where(np.isnat(ends), never, ends.astype("M8[M]").astype(np.int64)),
        }
    )[is_percent]
    found = asked.assign(place=np.arange(len(asked))).merge(links, on="promotion")
    found = found[(found["first"] <= found["month"]) & (found["last"] > found["month"])]
    # A place for every month of every redemption: uses are counted between two of them.
    used = pairs[invoices.list_minor[pairs["row"]] > 0]
    places = np.sort(used["of"].to_numpy() * _MONTHS + used["month"].to_numpy() + _MONTHS // 2)
    first = found["of"].to_numpy() * _MONTHS
    last = first + found["month"].to_numpy() + _MONTHS // 2
    uses = np.searchsorted(places, last, "right") - np.searchsorted(places, first, "left")
    result = np.zeros(len(asked), np.bool_)
    result[found["place"].to_numpy()[uses < found["limit"].to_numpy()]] = True
    return result


# ----------------------------------------------------------------------------- arithmetic on columns


def add_months(instants: Instants, months: npt.NDArray[np.timedelta64]) -> Instants:
    """R0: calendar months on, clamped to the end of the month; NaT if either is."""
    month = instants.astype("M8[M]")
    since = instants - month
    days = since.astype("m8[D]")
    moved = month + months
    longest = (moved + 1).astype("M8[D]") - moved.astype("M8[D]") - np.timedelta64(1, "D")
    result: Instants = moved.astype("M8[us]") + np.minimum(days, longest) + (since - days)
    return result


def months_of(numbers: pd.Series) -> npt.NDArray[np.timedelta64]:
    """Numbers as months, NaT for null."""
    months = numbers.fillna(0).to_numpy(np.int64).astype("m8[M]")
    months[numbers.isna().to_numpy()] = np.timedelta64("NaT")
    return months


def divided(factor: Whole, other: Whole, by: Whole) -> Whole:
    """R0: factor x other / by, rounded half away from zero; `by` is positive.

    Exact at any size: the few products that 64 bits might not hold are left to Python.
    """
    is_large = np.abs(factor).astype(float) * np.abs(other).astype(float) >= float(_SAFE)
    product = np.where(is_large, 0, factor) * other
    rounded: Whole = np.sign(product) * ((2 * np.abs(product) + by) // (2 * by))
    for at in np.flatnonzero(is_large):
        exact, divisor = int(factor[at]) * int(other[at]), int(by[at])
        nearest = (2 * abs(exact) + divisor) // (2 * divisor)
        rounded[at] = nearest if exact >= 0 else -nearest
    return rounded


def starts_of(key: Whole) -> Whole:
    """Where each stretch of equal values begins."""
    if not len(key):
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(key[1:] != key[:-1]) + 1])


def running(values: Whole, starts: Whole) -> Whole:
    """The running sum, restarted at each start."""
    sums = np.cumsum(values)
    before = sums[starts] - values[starts]
    return sums - np.repeat(before, np.diff(np.append(starts, len(values))))


def totals(count: int, at: Whole, values: Whole) -> Whole:
    """The sum of values at each of `count` places."""
    sums = np.zeros(count, np.int64)
    np.add.at(sums, at, values)
    return sums


def spread(first: Instants, last: Instants) -> tuple[Whole, Whole, Instants]:
    """A row for every month of every span: which span, where each span's rows begin, the month."""
    sizes = (last - first).astype(np.int64) + 1
    starts = np.cumsum(sizes) - sizes
    span = np.repeat(np.arange(len(sizes)), sizes)
    return span, starts, first[span] + (np.arange(len(span)) - starts[span])


# ------------------------------------------------------------------------------------------- columns


def decimals(units: Whole, is_given: Truth | None = None, kind: Any = _AMOUNT) -> Any:
    """Whole numbers of a decimal's last place as Arrow's decimals, of which they are the bytes."""
    wide = np.empty((len(units), 2), np.int64)
    wide[:, 0], wide[:, 1] = units, units >> 63
    validity = None
    if is_given is not None:
        validity = pa.py_buffer(np.packbits(is_given, bitorder="little"))
    return pa.Array.from_buffers(kind, len(units), [validity, pa.py_buffer(wide)])


def first_days(months: Instants) -> Any:
    """Months as the dates of their first days."""
    return pa.array(months.astype("M8[D]"))


def repeated(values: pd.Series, at: Whole) -> Any:
    """Texts at positions that repeat, stored once."""
    return pa.DictionaryArray.from_arrays(pa.array(at), pa.array(values, pa.string()))


def write(outputs: Path, name: str, columns: dict[str, Any]) -> None:
    """Write a result with the columns of its contract in their order."""
    table = pa.table({column: columns[column] for column in RESULTS[name]})
    pq.write_table(table, target(outputs, name), compression="snappy")


if __name__ == "__main__":
    command(main)
