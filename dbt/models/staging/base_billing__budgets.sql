with

{{ typed_rows('budgets', [
    ('extract(day from month) <> 1', 'month is not the first day of a month'),
], currencies=ref('iso_4217_currencies')) }}

select * from recorded
