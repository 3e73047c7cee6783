{# Every row has a key and no two rows share one: one pass with a hash aggregate. A null stands for a key of
   its own only in the columns named as nullable. #}
{% test primary_key(model, columns, nullable=[]) %}

select
    {{ columns | join(', ') }},
    count(*) as row_count

from {{ model }}

group by {{ columns | join(', ') }}

having
    count(*) > 1
    {%- for column in columns if column not in nullable %}
    or {{ column }} is null
    {%- endfor %}

{% endtest %}
