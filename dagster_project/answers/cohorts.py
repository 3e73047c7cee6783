"""`cohorts`: what was granted, used and lapsed, and who pays, by program, start quarter and age.

A cohort consists of the workspaces whose first redemption of a program started in a quarter. A workspace
has the age of n months once n months have passed since that start; before, it is too early to say.
"""

from __future__ import annotations

from dagster_project.answers.asking import Connection, Row, end_of, facts, of_plan, rows

AGES = (3, 6, 12, 24)
COUNTS = ("workspaces", "paying", "gone", "too_early")
AMOUNTS = ("granted_amount", "used_amount", "lapsed_amount", "discount_amount", "net_amount")


def cohorts(
    connection: Connection, program: str | None, age: int | None, plan: str | None = None
) -> Row:
    """Return the cohorts of every program, each at every age.

    Args:
        connection: The release.
        program: Only this one.
        age: Only this age in months.
        plan: Only workspaces on this plan.

    Returns:
        `cohorts`, each with `program`, `start_quarter`, `age_months` and counts: `paying` have a counted
        invoice with net above zero at least that many months after the start, `gone` have none, and
        `too_early` have none and are not that old. `amounts` by currency are of the months up to that
        age: credit granted, used and lapsed and discounts of the program, and net of all bills.
    """
    of_release = facts(connection)
    end = end_of(connection, of_release["as_of_date"])
    ages = [age] if age is not None else list(AGES)
    values: list[object] = [end, *([program] if program else [])]
    started = f"""
        started as (
            select coupons.program, redemptions.workspace_id,
                min(redemptions.started_at) as started_at
            from marts.dim_coupon_redemptions as redemptions
            inner join marts.dim_coupons as coupons using (coupon_id)
            where redemptions.is_honoured and redemptions.started_at < ?
                and (redemptions.ends_at is null or redemptions.started_at < redemptions.ends_at)
                and {of_plan(plan, "redemptions.workspace_id")}
                {"and coupons.program = ?" if program else ""}
            group by coupons.program, redemptions.workspace_id
        ),

        aged as (
            select started.*, cast(date_trunc('quarter', started_at) as date) as start_quarter,
                ages.age_months, started_at + to_months(ages.age_months) as aged_at
            from started
            cross join (select cast(unnest([{", ".join(map(str, ages))}]) as integer)
                as age_months) as ages
        )
    """
    counts = rows(
        connection,
        f"""
        with {started},

        paid as (
            select workspace_id, max(issued_at) as last_paying_at
            from marts.fct_discounted_charges where net_amount > 0 group by workspace_id
        )

        select aged.program, aged.start_quarter, aged.age_months, count(*) as workspaces,
            count(*) filter (where paid.last_paying_at >= aged.aged_at) as paying,
            count(*) filter (where paid.last_paying_at >= aged.aged_at is not true
                and aged.aged_at < ?) as gone,
            count(*) filter (where paid.last_paying_at >= aged.aged_at is not true
                and aged.aged_at >= ?) as too_early
        from aged left join paid using (workspace_id)
        group by aged.program, aged.start_quarter, aged.age_months
        order by aged.program, aged.start_quarter, aged.age_months
        """,
        [*values, end, end],
    )
    amounts = rows(
        connection,
        f"""
        with {started},

        moved as (
            select coupons.program, ledger.workspace_id, ledger.currency,
                ledger.effective_at as happened_at,
                case when ledger.entry_type = 'grant' then ledger.amount else 0 end
                    as granted_amount,
                case when ledger.entry_type = 'draw' then -ledger.amount else 0 end as used_amount,
                case when ledger.entry_type in ('expire', 'forfeit') then -ledger.amount else 0 end
                    as lapsed_amount,
                0 as discount_amount, 0 as net_amount
            from marts.fct_credit_ledger as ledger
            inner join marts.dim_coupons as coupons using (coupon_id)
            union all by name
            select coupons.program, charges.workspace_id, charges.currency,
                charges.issued_at as happened_at, 0 as granted_amount, 0 as used_amount,
                0 as lapsed_amount, applications.discount_amount, 0 as net_amount
            from marts.fct_discount_applications as applications
            inner join marts.fct_discounted_charges as charges using (invoice_id)
            inner join marts.dim_coupons as coupons using (coupon_id)
            union all by name
            select started.program, charges.workspace_id, charges.currency,
                charges.issued_at as happened_at, 0 as granted_amount, 0 as used_amount,
                0 as lapsed_amount, 0 as discount_amount, charges.net_amount
            from marts.fct_discounted_charges as charges
            inner join started using (workspace_id)
        )

        select aged.program, aged.start_quarter, aged.age_months, moved.currency,
            {", ".join(f"cast(sum(moved.{one}) as decimal(18, 2)) as {one}" for one in AMOUNTS)}
        from aged
        inner join moved
            on aged.program = moved.program and aged.workspace_id = moved.workspace_id
            and moved.happened_at >= aged.started_at and moved.happened_at < aged.aged_at
        group by aged.program, aged.start_quarter, aged.age_months, moved.currency
        order by moved.currency
        """,
        values,
    )
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
            {**row, "amounts": of_cohort.get(tuple(row[name] for name in key), [])}
            for row in counts
        ],
    }
