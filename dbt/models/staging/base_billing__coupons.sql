with

{{ typed_rows('coupons', [
    (
        "discount_type = 'percent_off' and (percent_off_text is null or amount_off_text is not null or credit_amount_text is not null)",
        'discount_type percent_off takes percent_off and no other amount'
    ),
    (
        "discount_type = 'amount_off' and (amount_off_text is null or percent_off_text is not null or credit_amount_text is not null)",
        'discount_type amount_off takes amount_off and no other amount'
    ),
    (
        "discount_type = 'credit' and (credit_amount_text is null or percent_off_text is not null or amount_off_text is not null)",
        'discount_type credit takes credit_amount and no other amount'
    ),
    (
        "discount_type in ('amount_off', 'credit') and currency is null",
        'currency is missing, amount_off and credit need one'
    ),
    (
        "duration = 'repeating' and (duration_months_text is null) = (duration_invoices_text is null)",
        'duration repeating takes exactly one of duration_months and duration_invoices'
    ),
    (
        "duration in ('once', 'forever') and (duration_months_text is not null or duration_invoices_text is not null)",
        'duration_months and duration_invoices are only for duration repeating'
    ),
    (
        "credit_period_months * credit_max_periods > 12000",
        'credit_period_months times credit_max_periods is above 12000'
    ),
], currencies=ref('iso_4217_currencies')) }}

select * from recorded
