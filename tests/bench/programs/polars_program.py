"""The five marts by Polars: lazy and streaming where the invoices are, integers throughout.

As someone who knows the library well would write it: the invoices are scanned, never held whole; only
the pairs of an invoice and a redemption that covers it are collected, and the invoice mart is streamed to
its file. What follows from redemptions is small and eager. The only loops are over the positions in which
discounts apply and over the ranks of credit grants.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
from polars import col

from tests.bench.programs.contract import COUNTED_STATUSES, RESULTS, command, source, target

_WIDE = pl.Int128


@dataclass(frozen=True)
class Day:
    """The as-of date, and the instant it ends."""

    as_of: date
    end: datetime


def main(inputs: Path, outputs: Path, as_of: date) -> None:
    """Read the inputs, calculate, write the results.

    Args:
        inputs: Folder of the Parquet files to read.
        outputs: Folder that gets the Parquet files.
        as_of: Last day whose events count.
    """
    day = Day(as_of, datetime.combine(as_of + timedelta(days=1), time()))
    redemptions = redemptions_in_force(inputs, day)
    counted = counted_invoices(inputs, day)
    pairs = covered(counted, redemptions)
    applications = applied(pairs.filter(col("discount_type") != "credit"))
    discounts = applications.group_by("row").agg(
        percent_off=col("discount").filter(col("discount_type") == "percent_off").sum(),
        amount_off=col("discount").filter(col("discount_type") == "amount_off").sum(),
    )
    write(
        applications.lazy().select(
            *("invoice_id", "redemption_id", "coupon_id", "application_rank", "discount_type"),
            "currency",
            base_amount=published("base"),
            discount_amount=published("discount"),
            remaining_amount=published(col("base") - col("discount")),
        ),
        outputs,
        "fct_discount_applications",
    )
    grants = scheduled_grants(redemptions, day)
    draws = drawn(pairs.filter(col("discount_type") == "credit"), grants, discounts)
    entries = posted(grants, draws)
    write(
        entries.lazy().with_columns(
            effective_month=_month("effective_at"),
            amount=published("signed"),
            balance_amount=published("balance"),
        ),
        outputs,
        "fct_credit_ledger",
    )
    write(burndown(grants, entries, day), outputs, "fct_credit_burndown_monthly")
    percent = pairs.filter(col("discount_type") == "percent_off")
    write(
        variance(percent, applications, redemptions, day),
        outputs,
        "fct_percent_off_variance_monthly",
    )
    write(charges(counted, discounts, draws), outputs, "fct_discounted_charges")


# ------------------------------------------------------------------------- which redemptions count


def redemptions_in_force(inputs: Path, day: Day) -> pl.DataFrame:
    """R2 to R4: the honoured redemptions that are ever in force, derived ones too, with their coupons."""
    coupons = pl.read_parquet(
        source(inputs, "coupons"),
        columns=[
            *("coupon_id", "discount_type", "percent_off_e4", "amount_off_minor", "amount_off_per"),
            *("credit_minor", "credit_period_months", "credit_max_periods", "credit_priority"),
            *("currency", "applies_to_plan", "applies_to_interval", "duration", "duration_months"),
            *("duration_invoices", "redeem_by", "max_redemptions", "requires_no_prior_coupon"),
            *("follow_up_coupon_id", "minor_per_major"),
        ],
    ).rename({"currency": "coupon_currency"})
    workspaces = pl.read_parquet(source(inputs, "workspaces"), columns=["workspace_id"])
    recorded = (
        pl.read_parquet(
            source(inputs, "redemptions"),
            columns=[
                *("redemption_id", "coupon_id", "workspace_id", "user_id", "redeemed_at"),
                *("starts_at", "ends_at", "revoked_at", "eligible_until", "application_order"),
            ],
        )
        # R0: a redemption made later is not known yet.
        .filter(col("redeemed_at") < day.end)
        .sort("redeemed_at", "redemption_id")
        .with_row_index("place")
        .with_columns(started_at=pl.coalesce("starts_at", "redeemed_at"))
        .join(
            coupons.with_columns(is_coupon=True), on="coupon_id", how="left", maintain_order="left"
        )
        .join(
            workspaces.with_columns(is_workspace=True),
            on="workspace_id",
            how="left",
            maintain_order="left",
        )
    )
    judged = with_window(recorded.with_columns(is_honoured=honoured(recorded)))
    derived = follow_ups(judged, coupons, day)
    both = pl.concat([with_promotion(judged, coupons, day), derived], how="diagonal")
    # R6: the order in which discounts apply is one order of redemptions.
    return (
        both.filter(col("ended_at").is_null() | (col("ended_at") > col("started_at")))
        .sort("application_order", "redeemed_at", "redemption_id", nulls_last=True)
        .with_row_index("of")
    )


def honoured(recorded: pl.DataFrame) -> pl.Series:
    """R2: whether none of the seven reasons refuses a redemption, of redemptions in their order."""
    nth = pl.int_range(pl.len())
    has_user = col("user_id").is_not_null()
    # Reason 6 ignores redemptions of the coupon itself and of coupons that it follows.
    keys = recorded.select("place", "workspace_id", "user_id", "coupon_id", "follow_up_coupon_id")
    overlooked = (
        pl.concat(
            [
                keys.with_columns(for_coupon="coupon_id", is_own=True),
                keys.filter(col("follow_up_coupon_id") != col("coupon_id")).with_columns(
                    for_coupon="follow_up_coupon_id", is_own=False
                ),
            ]
        )
        .sort("place")
        .with_columns(
            overlooked_in_workspace=nth.over("for_coupon", "workspace_id"),
            overlooked_by_user=nth.over("for_coupon", "user_id"),
        )
        .filter("is_own")
        .select("place", "overlooked_in_workspace", "overlooked_by_user")
    )
    is_refused = (
        col("is_coupon").is_null()
        | col("is_workspace").is_null()
        | (col("redeemed_at") > col("redeem_by")).fill_null(False)
        | (nth.over("coupon_id", "workspace_id") > 0)
        | (has_user & (nth.over("coupon_id", "user_id") > 0))
        | (
            col("requires_no_prior_coupon").fill_null(False)
            & (
                (nth.over("workspace_id") > col("overlooked_in_workspace"))
                | (has_user & (nth.over("user_id") > col("overlooked_by_user")))
            )
        )
    )
    uses = (~col("is_refused")).cast(pl.Int64).cum_sum().over("coupon_id")
    return (
        recorded.join(overlooked, on="place", how="left", maintain_order="left")
        .with_columns(is_refused=is_refused)
        .select(~col("is_refused") & ~(uses > col("max_redemptions")).fill_null(False))
        .to_series()
    )


def with_window(redemptions: pl.DataFrame) -> pl.DataFrame:
    """R3: add the natural end, the end, and what ended it, to redemptions with their coupons."""
    grants = pl.when(col("discount_type") == "credit").then(
        months_on(col("started_at"), col("credit_period_months") * col("credit_max_periods"))
    )
    return redemptions.with_columns(
        natural_end_at=pl.coalesce(
            col("ends_at"), months_on(col("started_at"), col("duration_months")), grants
        )
    ).with_columns(ended_at=pl.min_horizontal("natural_end_at", "revoked_at", "eligible_until"))


def is_by_expiry() -> pl.Expr:
    """R3: in a tie of what ends a redemption, its natural end comes first."""
    return (col("ended_at") == col("natural_end_at")).fill_null(False)


def handing_over(judged: pl.DataFrame, day: Day) -> pl.DataFrame:
    """R4: the honoured redemptions that ran out and have a follow-up, known or not."""
    return judged.filter(
        "is_honoured",
        is_by_expiry(),
        col("ended_at") > col("started_at"),
        col("ended_at") < day.end,
        col("follow_up_coupon_id") != col("coupon_id"),
    )


def with_promotion(judged: pl.DataFrame, coupons: pl.DataFrame, day: Day) -> pl.DataFrame:
    """R4: the honoured redemptions on record, each with the redemption that its promotion begins with.

    Of several that it follows, that is the first at whose end it starts, else the first; one that follows
    none begins a promotion itself. Follow-ups have no follow-ups.
    """
    honoured_ones = judged.filter("is_honoured")
    followed = (
        handing_over(judged, day)
        .select(
            "workspace_id",
            coupon_id="follow_up_coupon_id",
            before="place",
            promotion="redemption_id",
            due_at="ended_at",
        )
        .join(coupons.select("coupon_id"), on="coupon_id")
        .join(
            honoured_ones.select("place", "workspace_id", "coupon_id", "started_at"),
            on=["workspace_id", "coupon_id"],
        )
        .filter(col("before") < col("place"))
        .sort(col("due_at") != col("started_at"), "before")
        .unique("place", keep="first", maintain_order=True)
        .select("place", "promotion")
    )
    return honoured_ones.join(followed, on="place", how="left").with_columns(
        pl.coalesce("promotion", "redemption_id").alias("promotion")
    )


def follow_ups(judged: pl.DataFrame, coupons: pl.DataFrame, day: Day) -> pl.DataFrame:
    """R4: the honoured redemptions among those derived from redemptions that ran out."""
    nth = pl.int_range(pl.len())
    on_record = judged.select("coupon_id", "workspace_id", "user_id")
    due = (
        handing_over(judged, day)
        .select(
            "workspace_id",
            "user_id",
            promotion="redemption_id",
            redemption_id=col("redemption_id") + "~follow-up",
            coupon_id="follow_up_coupon_id",
            started_at="ended_at",
        )
        .join(coupons, on="coupon_id")
        .join(on_record, on=["coupon_id", "workspace_id"], how="anti")
        .join(
            on_record.select("coupon_id", "user_id").unique().with_columns(is_on_record=True),
            on=["coupon_id", "user_id"],
            how="left",
        )
        .sort("started_at", "redemption_id")
    )
    is_again = (nth.over("coupon_id", "workspace_id") > 0) | (
        col("user_id").is_not_null()
        & (col("is_on_record").fill_null(False) | (nth.over("coupon_id", "user_id") > 0))
    )
    no_instant = pl.lit(None, pl.Datetime("us"))
    return with_window(
        due.filter(~is_again).with_columns(
            redeemed_at="started_at",
            ends_at=no_instant,
            revoked_at=no_instant,
            eligible_until=no_instant,
        )
    )


# ------------------------------------------------------------------------ which invoices they cover


def counted_invoices(inputs: Path, day: Day) -> pl.LazyFrame:
    """R1: the invoices that count, each with a number; not read yet."""
    return (
        pl.scan_parquet(source(inputs, "invoices"))
        .filter(col("status").is_in(COUNTED_STATUSES), col("issued_at") < day.end)
        .with_columns(scale=100 // col("minor_per_major"))
        .with_row_index("row")
    )


def covered(counted: pl.LazyFrame, redemptions: pl.DataFrame) -> pl.DataFrame:
    """R5, R3: every pair of an invoice and a redemption that covers it."""
    eligible = (
        counted.select(
            *("row", "invoice_id", "workspace_id", "plan", "billing_interval", "currency"),
            *("issued_at", "list_minor", "credit_minor", "scale", "period_start", "period_end"),
        )
        .rename({"credit_minor": "billed_credit_minor"})
        .join(
            redemptions.lazy().select(
                *("of", "redemption_id", "coupon_id", "workspace_id", "started_at", "ended_at"),
                *("discount_type", "percent_off_e4", "amount_off_minor", "amount_off_per"),
                *("coupon_currency", "applies_to_plan", "applies_to_interval"),
                limit=use_limit(),
            ),
            on="workspace_id",
        )
        .filter(
            col("started_at") <= col("issued_at"),
            col("ended_at").is_null() | (col("ended_at") > col("issued_at")),
            col("applies_to_plan").is_null() | (col("applies_to_plan") == col("plan")),
            col("applies_to_interval").is_null()
            | (col("applies_to_interval") == col("billing_interval")),
            (col("discount_type") == "percent_off") | (col("coupon_currency") == col("currency")),
        )
        .drop(
            *("plan", "billing_interval", "coupon_currency", "applies_to_plan"),
            *("applies_to_interval", "started_at", "ended_at"),
        )
        .collect(engine="streaming")
    )
    # R3: once, or the first n invoices; an invoice of zero does not count.
    used = (col("list_minor") > 0).cast(pl.Int64)
    limited = (
        eligible.filter(col("limit").is_not_null())
        .sort("issued_at", "invoice_id")
        .filter((used.cum_sum() - used).over("of") < col("limit"))
    )
    return pl.concat([eligible.filter(col("limit").is_null()), limited]).drop("limit")


# ----------------------------------------------------------------------------------------- discounts


def applied(pairs: pl.DataFrame) -> pl.DataFrame:
    """R6: the discounts that take something, each from what those before it left."""
    between = _month_number("period_end") - _month_number("period_start")
    is_beyond = months_on(col("period_start"), between) > col("period_end")
    months = (between - is_beyond.cast(pl.Int64)).clip(1)
    times = pl.when(col("amount_off_per") == "month").then(months).otherwise(1)
    ordered = (
        pairs.sort("row", "of")
        .with_columns(position=pl.int_range(pl.len()).over("row"))
        .with_columns(asked=col("amount_off_minor").cast(_WIDE) * times)
        .drop("period_start", "period_end", "amount_off_minor", "amount_off_per")
    )
    discount = (
        pl.when(col("percent_off_e4").is_not_null())
        .then(rounded(col("base").cast(_WIDE) * col("percent_off_e4"), pl.lit(1_000_000)))
        .otherwise(pl.min_horizontal("asked", "base").cast(pl.Int64))
    )
    steps: list[pl.DataFrame] = []
    for step in ordered.partition_by("position", maintain_order=True):
        if steps:
            left = steps[-1].select("row", base=col("base") - col("discount"))
            based = step.join(left, on="row")
        else:
            based = step.with_columns(base="list_minor")
        steps.append(based.with_columns(discount=discount))
    if not steps:
        return ordered.with_columns(base="list_minor", discount="list_minor", application_rank="of")
    columns = [
        *("row", "of", "invoice_id", "redemption_id", "coupon_id", "discount_type", "currency"),
        *("scale", "position", "base", "discount"),
    ]
    return (
        pl.concat([step.select(columns) for step in steps])
        .filter(col("discount") > 0)
        .with_columns(application_rank=col("position").rank("ordinal").over("row").cast(pl.Int64))
    )


# -------------------------------------------------------------------------------------------- credit


def scheduled_grants(redemptions: pl.DataFrame, day: Day) -> pl.DataFrame:
    """R7: the grants issued, in the order in which a workspace draws on them, with their rank there."""
    is_periodic = col("credit_period_months").is_not_null()
    number, period = col("grant_period"), col("credit_period_months")
    is_cut_short = (
        ~is_by_expiry()
        & col("ended_at").is_not_null()
        & (col("period_ended_at").is_null() | (col("ended_at") < col("period_ended_at")))
    )
    return (
        redemptions.filter(col("discount_type") == "credit")
        .with_columns(
            grant_period=pl.int_ranges(
                1, pl.when(is_periodic).then("credit_max_periods").otherwise(1) + 1
            )
        )
        .explode("grant_period")
        .with_columns(
            grant_id=pl.format("{}#{}", "redemption_id", "grant_period"),
            grant_started_at=months_on(col("started_at"), (number - 1) * period.fill_null(0)),
            period_ended_at=months_on(col("started_at"), number * period),
        )
        .filter(
            (number == 1)
            | (
                (col("ended_at").is_null() | (col("grant_started_at") < col("ended_at")))
                & (col("redeem_by").is_null() | (col("grant_started_at") <= col("redeem_by")))
            ),
            col("grant_started_at") < day.end,
        )
        .with_columns(
            grant_ended_at=pl.min_horizontal("period_ended_at", "ended_at"),
            scheduled_end_at=pl.min_horizontal("period_ended_at", "natural_end_at"),
            ending_type=pl.when(is_cut_short).then(pl.lit("forfeit")).otherwise(pl.lit("expire")),
        )
        .with_columns(has_ended=(col("grant_ended_at") < day.end).fill_null(False))
        .sort(
            *("workspace_id", "credit_priority", "scheduled_end_at", "grant_started_at"),
            "grant_id",
            nulls_last=True,
        )
        .with_columns(rank=pl.int_range(pl.len()).over("workspace_id"))
        .rename({"coupon_currency": "currency", "credit_minor": "grant_minor"})
        .with_columns(scale=100 // col("minor_per_major"))
        .with_row_index("grant")
    )


def drawn(pairs: pl.DataFrame, grants: pl.DataFrame, discounts: pl.DataFrame) -> pl.DataFrame:
    """R7, R9: what each grant gives to each invoice it covers: as it should be, and as billed."""
    demands = (
        pairs.select("row", "of", "invoice_id", "issued_at", "list_minor", "billed_credit_minor")
        .join(
            grants.select(
                "of", "grant", "rank", "grant_minor", "grant_started_at", "grant_ended_at"
            ),
            on="of",
        )
        .filter(
            col("grant_started_at") <= col("issued_at"),
            col("grant_ended_at").is_null() | (col("grant_ended_at") > col("issued_at")),
        )
        .sort("rank", "grant", "issued_at", "invoice_id")
    )
    left = (
        demands.select("row", "list_minor", "billed_credit_minor")
        .unique("row")
        .join(discounts, on="row", how="left")
        .select(
            "row",
            left=col("list_minor") - (col("percent_off") + col("amount_off")).fill_null(0),
            left_billed="billed_credit_minor",
        )
    )
    # One fixed order: all grants of a rank take their part, then those of the next from the rest.
    steps: list[pl.DataFrame] = []
    for demanded in demands.partition_by("rank", maintain_order=True):
        step = (
            demanded.select("row", "grant", "invoice_id", "issued_at", "grant_minor")
            .join(left, on="row", maintain_order="left")
            .with_columns(
                balance=_balance_before("left"), balance_billed=_balance_before("left_billed")
            )
            .with_columns(
                draw=pl.min_horizontal("left", "balance"),
                draw_billed=pl.min_horizontal("left_billed", "balance_billed"),
            )
        )
        steps.append(step)
        left = left.join(step.select("row", "draw", "draw_billed"), on="row", how="left").select(
            "row",
            left=col("left") - col("draw").fill_null(0),
            left_billed=col("left_billed") - col("draw_billed").fill_null(0),
        )
    if not steps:
        nothing = dict.fromkeys(("balance", "balance_billed", "draw", "draw_billed"), "list_minor")
        return demands.with_columns(**nothing)
    return pl.concat(steps)


def _balance_before(left: str) -> pl.Expr:
    """R7: what a grant has before an invoice, from what is left of the invoices before it."""
    before = (col(left).cum_sum() - col(left)).over("grant")
    return (col("grant_minor") - before).clip(0)


def posted(grants: pl.DataFrame, draws: pl.DataFrame) -> pl.DataFrame:
    """R7: the ledger: what each grant was, gave, and lost at its end; each with the balance after it."""
    taken = draws.filter(col("draw") > 0)
    columns = (
        *("grant_id", "redemption_id", "coupon_id", "workspace_id", "currency", "entry_type"),
        *("grant", "scale", "invoice_id", "effective_at", "signed", "balance"),
    )
    no_invoice = pl.lit(None, pl.String)
    granted = grants.with_columns(
        entry_type=pl.lit("grant"),
        invoice_id=no_invoice,
        effective_at="grant_started_at",
        signed="grant_minor",
        balance="grant_minor",
    )
    drawn_ = taken.select(
        *("grant", "invoice_id"),
        effective_at="issued_at",
        signed=-col("draw"),
        balance=col("balance") - col("draw"),
    ).join(grants.with_columns(entry_type=pl.lit("draw")), on="grant")
    ended = (
        grants.filter("has_ended")
        .join(taken.group_by("grant").agg(col("draw").sum()), on="grant", how="left")
        .with_columns(
            entry_type="ending_type",
            invoice_id=no_invoice,
            effective_at="grant_ended_at",
            signed=col("draw").fill_null(0) - col("grant_minor"),
            balance=pl.lit(0, pl.Int64),
        )
        .filter(col("signed") < 0)
    )
    return pl.concat([part.select(columns) for part in (granted, drawn_, ended)]).with_columns(
        entry_id=pl.concat_str(
            "grant_id", "entry_type", "invoice_id", separator=":", ignore_nulls=True
        )
    )


def burndown(grants: pl.DataFrame, entries: pl.DataFrame, day: Day) -> pl.LazyFrame:
    """R7, R12: one row per grant and month, from its first to the month it ended or of the as-of date."""
    this_month, next_month = day.as_of.replace(day=1), day.end.date().replace(day=1)
    by_type = {
        name: col("signed").filter(col("entry_type") == entry_type).sum().abs()
        for name, entry_type in (
            ("granted", "grant"), ("drawn", "draw"), ("expired", "expire"), ("forfeited", "forfeit"),
        )
    }  # fmt: skip
    of_month = entries.group_by("grant", burn_month=_month("effective_at")).agg(
        change=col("signed").sum(), **by_type
    )
    ended_in = pl.when("has_ended").then(_month("grant_ended_at")).otherwise(this_month)
    is_recent = col("burn_month").is_between(
        pl.lit(next_month).dt.offset_by("-3mo"), next_month, closed="left"
    )
    is_open = ~col("has_ended") & (col("burn_month") == this_month)
    recent = pl.when(is_recent)
    counted = recent.then(1).sum().over("grant")
    rate = pl.when(is_open & (counted > 0)).then(
        rounded(recent.then("drawn").sum().over("grant").cast(_WIDE), counted.clip(1))
    )
    return (
        grants.lazy()
        .with_columns(
            burn_month=pl.date_ranges(_month("grant_started_at"), ended_in, "1mo"),
        )
        .explode("burn_month")
        .join(of_month.lazy(), on=["grant", "burn_month"], how="left")
        .with_columns(col("change", *by_type).fill_null(0))
        .sort("grant", "burn_month")
        .with_columns(closing=col("change").cum_sum().over("grant"), rate=rate)
        .with_columns(
            grant_ends_at="grant_ended_at",
            opening_amount=published(col("closing") - col("change")),
            granted_amount=published("granted"),
            drawn_amount=published("drawn"),
            expired_amount=published("expired"),
            forfeited_amount=published("forfeited"),
            closing_amount=published("closing"),
            run_rate_amount=published("rate"),
        )
    )


# ------------------------------------------------------------------------------------------ the rest


def charges(counted: pl.LazyFrame, discounts: pl.DataFrame, draws: pl.DataFrame) -> pl.LazyFrame:
    """R8, R9: what should have been charged beside what was."""
    credited = draws.group_by("row").agg(
        credit=col("draw").sum(),
        served=col("draw_billed").sum(),
        available=col("balance_billed").sum(),
    )
    totals = discounts.join(credited, on="row", how="full", coalesce=True)
    billed_discount, billed_credit = col("discount_minor"), col("credit_minor")
    could = pl.min_horizontal(col("list_minor") - billed_discount, col("available"))
    both = col("discount_variance") + col("credit_variance")
    differs = (col("discount_variance").abs() > 1) | (col("credit_variance").abs() > 1)
    return (
        counted.join(totals.lazy(), on="row", how="left")
        .with_columns(
            col("percent_off", "amount_off", "credit", "served", "available").fill_null(0)
        )
        .with_columns(discount=col("percent_off") + col("amount_off"))
        .with_columns(
            discount_variance=billed_discount - col("discount"),
            credit_variance=billed_credit - col("served") - (could - col("served")).clip(0),
        )
        .with_columns(
            billing_month=_month("issued_at"),
            list_amount=published("list_minor"),
            percent_off_amount=published("percent_off"),
            amount_off_amount=published("amount_off"),
            discount_amount=published("discount"),
            credit_amount=published("credit"),
            net_amount=published(col("list_minor") - col("discount") - col("credit")),
            tax_amount=published("tax_minor"),
            billed_discount_amount=published(billed_discount),
            billed_credit_amount=published(billed_credit),
            billed_net_amount=published(col("list_minor") - billed_discount - billed_credit),
            billed_total_amount=published("total_minor"),
            discount_variance_amount=published("discount_variance"),
            credit_variance_amount=published("credit_variance"),
            audit_status=pl.when(differs & (both > 0))
            .then(pl.lit("over_discounted"))
            .when(differs & (both < 0))
            .then(pl.lit("under_discounted"))
            .otherwise(pl.lit("matched")),
        )
    )


def variance(
    pairs: pl.DataFrame, applications: pl.DataFrame, redemptions: pl.DataFrame, day: Day
) -> pl.LazyFrame:
    """R10: one row per workspace, currency and month, from the first covered one, without gaps."""
    series = ["workspace_id", "currency"]
    given = applications.filter(col("discount_type") == "percent_off").select(
        "row", "of", "discount"
    )
    taken = pairs.join(given, on=["row", "of"], how="left").with_columns(
        col("discount").fill_null(0), variance_month=_month("issued_at")
    )
    months = (
        taken.lazy()
        .group_by(*series, "scale", "variance_month", "row")
        .agg(col("list_minor").first(), col("discount").sum())
        .group_by(*series, "scale", "variance_month")
        .agg(bill=col("list_minor").sum(), given=col("discount").sum())
        .with_columns(is_covered=True)
    )
    last = pl.col("variance_month").max().dt.offset_by("1mo")
    effects = promotion_effects(taken, redemptions, day)
    names = ["bill_effect", "rate_effect", "start_effect", "end_effect"]
    return (
        months.group_by(*series, "scale")
        .agg(
            pl.date_ranges(
                col("variance_month").min(),
                pl.min_horizontal(last, day.as_of.replace(day=1)),
                "1mo",
            ).first()
        )
        .explode("variance_month")
        .join(months, on=[*series, "scale", "variance_month"], how="left")
        .join(
            effects.lazy().group_by(*series, "variance_month").agg(col(*names).sum()),
            on=[*series, "variance_month"],
            how="left",
        )
        .with_columns(
            col("bill", "given", *names).fill_null(0),
            col("is_covered").fill_null(False),
        )
        .sort(*series, "variance_month")
        .with_columns(
            bill_before=col("bill").shift(1, fill_value=0).over(series),
            given_before=col("given").shift(1, fill_value=0).over(series),
        )
        .with_columns(
            bill_amount=published("bill"),
            percent_off_amount=published("given"),
            effective_percent=pl.when(col("bill") > 0).then(
                decimals(rounded(col("given").cast(_WIDE) * 1_000_000, col("bill").clip(1)), 9, 4)
            ),
            previous_bill_amount=published("bill_before"),
            previous_percent_off_amount=published("given_before"),
            delta_amount=published(col("given") - col("given_before")),
            **{f"{name}_amount": published(name) for name in names},
        )
    )


def promotion_effects(taken: pl.DataFrame, redemptions: pl.DataFrame, day: Day) -> pl.DataFrame:
    """R10: what the changes of each promotion are due to, by workspace, currency and month.

    Args:
        taken: Each invoice with each percent-off redemption that covers it, and what it takes.
        redemptions: Those ever in force.
        day: The as-of date.
    """
    series = ["promotion", "workspace_id", "currency"]
    pairs = taken.join(redemptions.select("of", "promotion"), on="of")
    this_month, before = col("variance_month"), col("month_before")
    months = (
        pairs.group_by(*series, "variance_month", "row")
        .agg(col("list_minor").first(), col("discount").sum())
        .group_by(*series, "variance_month")
        .agg(bill=col("list_minor").sum(), given=col("discount").sum())
        .sort(*series, "variance_month")
        .with_columns(
            month_before=this_month.dt.offset_by("-1mo"),
            month_after=this_month.dt.offset_by("1mo"),
            last_covered=this_month.shift(1).over(series),
            next_covered=this_month.shift(-1).over(series),
            bill_before=col("bill").shift(1, fill_value=0).over(series),
            given_before=col("given").shift(1, fill_value=0).over(series),
        )
    )
    ends = in_force(
        pl.concat(
            [
                months.filter(col("last_covered") < before).select("promotion", month=before),
                months.select("promotion", month="month_after"),
            ]
        ).unique(),
        pairs,
        redemptions,
    )
    goes_on = (col("last_covered") == before).fill_null(False)
    comes_again = (col("last_covered") < before).fill_null(False)
    proportional = (
        pl.when(col("bill_before") == 0)
        .then("delta")
        .otherwise(
            rounded(
                col("given_before").cast(_WIDE) * (col("bill") - col("bill_before")),
                col("bill_before").clip(1),
            )
        )
    )
    no_bill_came = comes_again & col("is_in_force")
    nothing = pl.lit(0, pl.Int64)
    covered_months = (
        months.join(
            ends,
            left_on=["promotion", "month_before"],
            right_on=["promotion", "month"],
            how="left",
        )
        .with_columns(
            col("is_in_force").fill_null(False),
            delta=pl.when(goes_on).then(col("given") - col("given_before")).otherwise("given"),
        )
        .with_columns(proportional=proportional)
        .select(
            *("workspace_id", "currency", "variance_month"),
            bill_effect=pl.when(goes_on)
            .then("proportional")
            .when(no_bill_came)
            .then("delta")
            .otherwise(nothing),
            rate_effect=pl.when(goes_on)
            .then(col("delta") - col("proportional"))
            .otherwise(nothing),
            start_effect=pl.when(goes_on | no_bill_came).then(nothing).otherwise("delta"),
            end_effect=nothing,
        )
    )
    months_after = (
        months.filter(
            col("next_covered").is_null() | (col("next_covered") > col("month_after")),
            col("month_after") <= day.as_of.replace(day=1),
        )
        .join(
            ends, left_on=["promotion", "month_after"], right_on=["promotion", "month"], how="left"
        )
        .select(
            "workspace_id",
            "currency",
            variance_month="month_after",
            bill_effect=pl.when("is_in_force").then(-col("given")).otherwise(nothing),
            rate_effect=nothing,
            start_effect=nothing,
            end_effect=pl.when("is_in_force").then(nothing).otherwise(-col("given")),
        )
    )
    return pl.concat([covered_months, months_after])


def in_force(asked: pl.DataFrame, pairs: pl.DataFrame, redemptions: pl.DataFrame) -> pl.DataFrame:
    """R10: those promotions and months at whose end a percent-off redemption is in force.

    It starts in that month or before, ends in a later one or never, and has uses left after the invoices
    of that month and those before.
    """
    links = redemptions.filter(col("discount_type") == "percent_off").select(
        *("promotion", "of"),
        limit=use_limit(),
        first=_month("started_at"),
        last=_month("ended_at"),
    )
    used = (
        pairs.filter(col("list_minor") > 0)
        .group_by("of", "variance_month")
        .len("uses")
        .with_columns(col("uses").cast(pl.Int64))
    )
    found = asked.join(links, on="promotion").filter(
        col("first") <= col("month"), col("last").is_null() | (col("last") > col("month"))
    )
    uses = (
        found.filter(col("limit").is_not_null())
        .join(used, on="of")
        .filter(col("variance_month") <= col("month"))
        .group_by("of", "month")
        .agg(col("uses").sum())
    )
    return (
        found.join(uses, on=["of", "month"], how="left")
        .filter(col("limit").is_null() | (col("uses").fill_null(0) < col("limit")))
        .select("promotion", "month")
        .unique()
        .with_columns(is_in_force=True)
    )


# --------------------------------------------------------------------------------------- expressions


def use_limit() -> pl.Expr:
    """R3: on how many invoices a redemption may be used; null if that is not limited."""
    return pl.when(col("duration") == "once").then(1).otherwise("duration_invoices")


def months_on(instant: pl.Expr, months: pl.Expr) -> pl.Expr:
    """R0: calendar months on, clamped to the end of the month; null if either is."""
    return instant.dt.offset_by(pl.format("{}mo", months))


def rounded(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    """R0: a quotient rounded half away from zero; the denominator is positive, products are wide."""
    by = denominator.cast(_WIDE)
    nearest = ((numerator.abs() * 2 + by) // (by * 2)).cast(pl.Int64)
    return pl.when(numerator < 0).then(-nearest).otherwise(nearest)


def decimals(units: pl.Expr, precision: int, places: int) -> pl.Expr:
    """Whole numbers of a decimal's last place as decimals."""
    unit = pl.lit(Decimal(1).scaleb(-places))
    return (units.cast(pl.Decimal(18, 0)) * unit).cast(pl.Decimal(precision, places))


def published(minor: str | pl.Expr) -> pl.Expr:
    """Minor units as the amount published, by the row's scale."""
    units = col(minor) if isinstance(minor, str) else minor
    return decimals(units * col("scale"), 18, 2)


def _month(instant: str) -> pl.Expr:
    return col(instant).dt.truncate("1mo").cast(pl.Date)


def _month_number(day: str) -> pl.Expr:
    return col(day).dt.year().cast(pl.Int64) * 12 + col(day).dt.month()


def write(frame: pl.LazyFrame, outputs: Path, name: str) -> None:
    """Write a result with the columns of its contract in their order."""
    frame.select(*RESULTS[name]).sink_parquet(
        target(outputs, name), compression="snappy", engine="streaming"
    )


if __name__ == "__main__":
    command(main)
