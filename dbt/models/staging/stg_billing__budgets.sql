with

current_versions as (

    {{ current_versions('budgets') }}

),

final as (

    select
        program,
        currency,
        month as budget_month,
        amount_minor,
        updated_at,
        minor_per_major,
        delivery_sequence,
        row_number

    from current_versions

)

select * from final
