{# Every row has a key and no two rows share one, in one pass with a hash aggregate. Null is allowed only in the columns
   listed in `nullable`, where it is a value like any other. #}
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
