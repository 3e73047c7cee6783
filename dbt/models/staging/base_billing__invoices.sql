with

{{ typed_rows('invoices', [
    ('period_end <= period_start', 'period_end is not after period_start'),
], currencies=ref('iso_4217_currencies')) }}

select * from recorded
