with

accepted as (

    select
        feed,
        sum(accepted_rows) as row_count

    from {{ ref('int_deliveries_reconciled') }}

    group by feed

),

current_records as (
    {% for feed in feed_names() %}
    select
        '{{ feed }}' as feed,
        count(*) as row_count

    from {{ ref('stg_billing__' ~ feed) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select
    current_records.feed,
    accepted.row_count as accepted_rows,
    current_records.row_count as current_rows

from current_records

left join accepted
    on current_records.feed = accepted.feed

where current_records.row_count <> coalesce(accepted.row_count, 0)
