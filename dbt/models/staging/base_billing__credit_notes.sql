with

{{ typed_rows('credit_notes', [], currencies=ref('iso_4217_currencies')) }}

select * from recorded
