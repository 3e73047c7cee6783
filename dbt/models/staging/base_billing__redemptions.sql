with

{{ typed_rows('redemptions', [
    ("redemption_id like '%~follow-up'", 'redemption_id ends in ~follow-up, which is reserved for derived redemptions'),
]) }}

select * from recorded
