{{ config(meta={'unpacked': ['record_id']}) }}

with

{% for feed in feed_names() %}
{{ repeated_rows(feed) }},
{% endfor %}

final as (
    {% for feed in feed_names() %}
    select * from {{ feed }}_fates
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select * from final
