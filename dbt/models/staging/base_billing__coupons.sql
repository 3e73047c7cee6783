with

{{ typed_rows('coupons', [
    (
        "discount_type = 'percent_off' and (" ~ is_not_given('percent_off') ~ " or " ~ is_given('amount_off') ~ " or " ~ is_given('credit_amount') ~ ")",
        'discount_type percent_off takes percent_off and no other amount'
    ),
    (
        "discount_type = 'amount_off' and (" ~ is_not_given('amount_off') ~ " or " ~ is_given('percent_off') ~ " or " ~ is_given('credit_amount') ~ ")",
        'discount_type amount_off takes amount_off and no other amount'
    ),
    (
        "discount_type = 'credit' and (" ~ is_not_given('credit_amount') ~ " or " ~ is_given('percent_off') ~ " or " ~ is_given('amount_off') ~ ")",
        'discount_type credit takes credit_amount and no other amount'
    ),
    (
        "discount_type in ('amount_off', 'credit') and currency is null",
        'currency is missing, amount_off and credit need one'
    ),
    (
        "duration = 'repeating' and " ~ is_not_given('duration_months') ~ " = " ~ is_not_given('duration_invoices'),
        'duration repeating takes exactly one of duration_months and duration_invoices'
    ),
    (
        "duration in ('once', 'forever') and (" ~ is_given('duration_months') ~ " or " ~ is_given('duration_invoices') ~ ")",
        'duration_months and duration_invoices are only for duration repeating'
    ),
    (
        "cast(credit_period_months as " ~ wide_integer() ~ ") * credit_max_periods > 12000",
        'credit_period_months times credit_max_periods is above 12000'
    ),
], currencies=ref('iso_4217_currencies')) }}

select * from recorded
