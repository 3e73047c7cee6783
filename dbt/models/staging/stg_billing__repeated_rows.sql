with

{% for feed, key in record_keys().items() %}
{{ repeated_rows(feed, key) }},
{% endfor %}

final as (
    {% for feed in record_keys() %}
    select * from {{ feed }}_fates
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select * from final
