"""`cohorts`: what was granted, used and lapsed, and who pays, by program, start quarter and age.

A cohort consists of the workspaces whose first redemption of a program started in a quarter. A workspace
has the age of n months once n months have passed since that start; until then it is too early to say.
"""

from __future__ import annotations

from collections.abc import Sequence

from dagster_project.answers.asking import (
    Connection,
    Row,
    end_of,
    facts,
    local,
    of_plan,
    rows,
    zone_of,
)

AGES = (3, 6, 12, 24)
COUNTS = ("workspaces", "paying", "gone", "too_early")
AMOUNTS = ("granted_amount", "used_amount", "lapsed_amount", "discount_amount", "net_amount")


def cohorts(
    connection: Connection,
    program: str | None,
    age: int | None,
    plan: str | None = None,
    *,
    is_of_credit: bool = False,
) -> Row:
    """Return the cohorts of every program, each at every age.

    Args:
        connection: The release.
        program: Only this one.
        age: Only this age in months.
        plan: Only workspaces on this plan.
        is_of_credit: Only programs that give credit, without the amounts of their discounts.

    Returns:
        `cohorts`, each with `program`, `start_quarter`, `age_months` and counts: `paying` have a counted
        invoice with net above zero at least that many months after the start; of the others, `gone` have
        reached that age and `too_early` have not. `amounts`, by currency, are of the months up to that
        age: the program's discounts and credit granted, used and lapsed, and the net of all bills.
    """
    of_release = facts(connection)
    end = end_of(connection, of_release["as_of_date"])
    ages = [age] if age is not None else list(AGES)
    values: list[object] = [end, *([program] if program else [])]
    gives_credit = (
        "coupons.program in (select program from marts.dim_coupons where discount_type = 'credit')"
    )
    started = f"""
        started as (
            select coupons.program, redemptions.workspace_id,
                min(redemptions.started_at) as started_at,
                cast(date_trunc('quarter', {local("min(redemptions.started_at)", zone_of(connection))})
                    as date) as start_quarter
            from marts.dim_coupon_redemptions as redemptions
            inner join marts.dim_coupons as coupons using (coupon_id)
            where redemptions.is_honoured and redemptions.started_at < ?
                and (redemptions.ends_at is null or redemptions.started_at < redemptions.ends_at)
                and {of_plan(plan, "redemptions.workspace_id")}
                {"and coupons.program = ?" if program else ""}
                {"and " + gives_credit if is_of_credit else ""}
            group by coupons.program, redemptions.workspace_id
        )
    """
    of_ages = ", ".join(
        f"""
            count(*) filter (where last_paying_at >= started_at + to_months({one})) as paying_{one},
            count(*) filter (where last_paying_at >= started_at + to_months({one}) is not true
                and started_at + to_months({one}) < ?) as gone_{one}"""
        for one in ages
    )
    counts = rows(
        connection,
        f"""
        with {started},

        paid as (
            select workspace_id, max(issued_at) as last_paying_at
            from marts.fct_discounted_charges where net_amount > 0 group by workspace_id
        )

        select program, start_quarter, count(*) as workspaces, {of_ages}
        from started left join paid using (workspace_id)
        group by program, start_quarter order by program, start_quarter
        """,
        [*values, *[end] * len(ages)],
    )
    amounts = rows(connection, _amounts(started, ages, is_of_credit), values)
    key = ("program", "start_quarter", "age_months")
    of_cohort: dict[tuple[object, ...], list[Row]] = {}
    for row in amounts:
        of_row = {name: value for name, value in row.items() if name not in key}
        of_cohort.setdefault(tuple(row[name] for name in key), []).append(of_row)
    return {
        **of_release,
        "program": program,
        "ages": ages,
        "cohorts": [
            {
                "program": row["program"],
                "start_quarter": row["start_quarter"],
                "age_months": one,
                "workspaces": row["workspaces"],
                "paying": row[f"paying_{one}"],
                "gone": row[f"gone_{one}"],
                "too_early": row["workspaces"] - row[f"paying_{one}"] - row[f"gone_{one}"],
                "amounts": of_cohort.get((row["program"], row["start_quarter"], one), []),
            }
            for row in counts
            for one in ages
        ],
    }


def _amounts(started: str, ages: Sequence[int], is_of_credit: bool) -> str:
    """Return SQL for the amounts of each cohort up to each age, by currency.

    Each amount is summed once, at the first age that it counts for; later ages include the earlier ones.

    Args:
        started: SQL of `started`, a row per program and workspace.
        ages: Ages in months, ascending.
        is_of_credit: Whether amounts of discounts are left out.
    """
    *earlier, last = ages
    ends = ", ".join(f"started_at + to_months({age}) as aged_at_{age}" for age in ages)
    whens = "".join(f"when happened_at < aged_at_{age} then {age} " for age in earlier)
    first_age = f"case {whens} else {last} end" if earlier else str(last)
    named = [one for one in AMOUNTS if one != "discount_amount" or not is_of_credit]
    none = {one: f"0 as {one}" for one in named}
    key = ("program", "start_quarter", "currency", "first_age")

    def summed(source: str, *more_key: str, **amounts: str) -> str:
        by = ", ".join([*key, *more_key])
        sums = none | {one: f"sum({value}) as {one}" for one, value in amounts.items()}
        return f"""
            select {by}, {", ".join(sums.values())}
            from (
                select *, {first_age} as first_age from {source}
                where happened_at >= started_at and happened_at < aged_at_{last}
            ) group by {by}"""

    of_bills = {"net_amount": "net_amount"}
    of_applications, is_mixed = "", "false"
    if not is_of_credit:
        is_mixed = "workspace_id in (from mixed)"
        of_bills["discount_amount"] = "case when is_mixed then 0 else discount_amount end"
        of_applications = "union all by name" + summed(
            "applied inner join aged using (program, workspace_id)",
            discount_amount="discount_amount",
        )
    return f"""
        with {started},

        -- Workspaces with coupons of several programs: only their applications must be joined to coupons.
        mixed as materialized (
            select redemptions.workspace_id from marts.dim_coupon_redemptions as redemptions
            inner join marts.dim_coupons as coupons using (coupon_id)
            group by redemptions.workspace_id
            having min(coupons.program) <> max(coupons.program)
        ),

        aged as materialized (
            select started.*, {ends}, {is_mixed} as is_mixed from started
        ),

        -- Summed by coupon first, because that leaves far fewer rows to join to programs.
        entered as (
            {
        summed(
            "(select coupon_id, workspace_id, currency, effective_at as happened_at, entry_type,"
            " amount from marts.fct_credit_ledger) inner join aged using (workspace_id)",
            "coupon_id",
            granted_amount="case when entry_type = 'grant' then amount else 0 end",
            used_amount="case when entry_type = 'draw' then -amount else 0 end",
            lapsed_amount="case when entry_type in ('expire', 'forfeit') then -amount else 0 end",
        )
    }
        ),

        applied as materialized (
            select coupons.program, charges.workspace_id, charges.currency,
                charges.issued_at as happened_at, applications.discount_amount
            from marts.fct_discount_applications as applications
            inner join (
                from marts.fct_discounted_charges semi join mixed using (workspace_id)
                where discount_amount <> 0
            ) as charges using (invoice_id)
            inner join marts.dim_coupons as coupons using (coupon_id)
        ),

        moved as (
            select entered.* exclude (coupon_id) from entered
            inner join marts.dim_coupons as coupons using (coupon_id, program)
            {of_applications}
            union all by name
            {
        summed(
            "(select workspace_id, currency, issued_at as happened_at, discount_amount, net_amount"
            " from marts.fct_discounted_charges) inner join aged using (workspace_id)",
            **of_bills,
        )
    }
        )

        select program, start_quarter, age_months, currency,
            {", ".join(f"cast(sum({one}) as decimal(18, 2)) as {one}" for one in named)}
        from moved
        inner join (select cast(unnest([{", ".join(map(str, ages))}]) as integer) as age_months)
            on first_age <= age_months
        group by program, start_quarter, age_months, currency
        order by currency
        """
