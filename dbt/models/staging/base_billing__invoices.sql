with

{{ typed_rows('invoices', [
    ("invoice_id like '%~expected-%'", 'invoice_id contains ~expected-, which is reserved for expected bills'),
    ('period_end <= period_start', 'period_end is not after period_start'),
    ('discountable_minor > list_minor and discountable_minor > 0', 'discountable_amount is above list_amount, or above 0 where list_amount is below 0'),
    ('tax_minor < 0 and list_minor >= 0', 'tax_amount is below 0 where list_amount is not'),
], currencies=ref('iso_4217_currencies')) }}

select * from recorded
