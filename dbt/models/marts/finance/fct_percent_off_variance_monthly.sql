with

varied as (

    select * from {{ of_recalculated_workspaces(ref('int_percent_off_months_varied')) }}

),

final as (

    select
        workspace_id,
        currency,
        variance_month,
        is_covered,
        {{ published_amount('bill_minor') }} as bill_amount,
        {{ published_amount('percent_off_minor') }} as percent_off_amount,
        {{ percent_of('percent_off_minor', 'bill_minor') }} as effective_percent,
        {{ published_amount('previous_bill_minor') }} as previous_bill_amount,
        {{ published_amount('previous_percent_off_minor') }} as previous_percent_off_amount,
        {{ published_amount('delta_minor') }} as delta_amount,
        {{ published_amount('bill_effect_minor') }} as bill_effect_amount,
        {{ published_amount('rate_effect_minor') }} as rate_effect_amount,
        {{ published_amount('start_effect_minor') }} as start_effect_amount,
        {{ published_amount('end_effect_minor') }} as end_effect_amount

    from varied

)

select * from final
