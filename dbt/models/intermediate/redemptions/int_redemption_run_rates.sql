with

-- Only active redemptions have a run rate.
active as (

    select redemption_id from {{ ref('int_redemption_ends_looked_ahead') }}

),

redemptions as (

    select * from {{ ref('int_redemptions_with_terms') }}

    where redemption_id in (select redemption_id from active)

),

benefits as (

    select
        redemption_id,
        {{ sum_minor('discount_minor + credit_minor') }} as benefit_minor

    from {{ ref('int_benefits_given') }}

    where
        not is_expected
        and billing_month < {{ month_after_as_of_date() }}
        and billing_month >= {{ three_months_before_end() }}
        and redemption_id in (select redemption_id from active)

    group by redemption_id

),

-- R12: the last three months that had ended by the end of the as-of date, since the redemption began.
counted as (

    select
        redemptions.redemption_id,
        coalesce(benefits.benefit_minor, 0) as benefit_minor,
        least(
            {{ calendar_months_between(month_of('redemptions.started_at'), month_after_as_of_date()) }},
            3
        ) as months

    from redemptions

    left join benefits
        on redemptions.redemption_id = benefits.redemption_id

),

final as (

    select
        redemption_id,
        case
            when months > 0
                then {{ divide_rounded('benefit_minor', 'greatest(months, 1)') }}
        end as run_rate_minor

    from counted

)

select * from final
