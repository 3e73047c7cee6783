with

invoices as (

    select * from {{ invoices_to_calculate() }}

),

-- An invoice for which no grant has a balance is treated like one that no grant covers. Without this condition, which
-- DuckDB assumes to keep one row in five, it would build hash tables of the invoices.
draws as (

    select
        invoice_id,
        {{ sum_minor('draw_minor') }} as expected_credit_minor,
        {{ sum_minor('billed_draw_minor') }} as served_credit_minor,
        {{ sum_minor('billed_balance_before_minor') }} as available_credit_minor

    from {{ recalculated(ref('int_credit_draws')) }}

    where not is_expected

    group by invoice_id

    having max(greatest(balance_before_minor, billed_balance_before_minor)) > 0

),

joined as (

    select
        invoices.invoice_id,
        invoices.list_minor,
        invoices.creditable_minor,
        invoices.billed_discount_minor,
        invoices.billed_credit_minor,
        coalesce(draws.expected_credit_minor, 0) as credit_minor,
        coalesce(draws.served_credit_minor, 0) as served_credit_minor,
        coalesce(draws.available_credit_minor, 0) as available_credit_minor

    from invoices

    left join draws
        on invoices.invoice_id = draws.invoice_id

    where
        draws.invoice_id is not null
        or invoices.billed_credit_minor > 0

),

-- R9: credit is judged against the balance as billed so far. Over-drawn is the billed credit that no grant
-- covers, plus what grants cover beyond the creditable amount; under-drawn is what the bill, after billed
-- discounts and up to the creditable amount, could have drawn and did not.
final as (

    select
        invoice_id,
        credit_minor,
        billed_credit_minor - served_credit_minor
        + greatest(served_credit_minor - coalesce(creditable_minor, served_credit_minor), 0)
        - greatest(
            least(
                list_minor - billed_discount_minor,
                coalesce(creditable_minor, available_credit_minor),
                available_credit_minor
            ) - served_credit_minor,
            0
        ) as credit_variance_minor

    from joined

)

select * from final
