"""A page for the supplier of the files: what was delivered, what became of it, what to correct.

The page is one self-contained HTML file, made from a release. Text from deliveries is untrusted: it is
escaped, never interpreted. A release has no personal data, and so neither has the page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster_project.answers import deliveries
from dagster_project.answers.values import clean

if TYPE_CHECKING:
    from dagster_project.answers.asking import Connection

_MOST_CHECKS = 200
_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Deliveries as of {{ as_of_date }}</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; margin-bottom: 0; }
  h2 { font-size: 1.1rem; margin-top: 2.2rem; }
  .lead { color: #55606e; margin-top: .2rem; }
  table { border-collapse: collapse; width: 100%; margin: .6rem 0; }
  th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #dfe4ea; vertical-align: top; }
  th { font-weight: 600; color: #55606e; }
  .examples { table-layout: fixed; }
  .examples th:first-child { width: 15rem; }
  .examples th:nth-child(2) { width: 3.5rem; }
  .number { text-align: right; font-variant-numeric: tabular-nums; }
  .bad { color: #a3261b; font-weight: 600; }
  .file { overflow-wrap: anywhere; }
  @media (max-width: 40rem) { table { display: block; overflow-x: auto; } }
  code { font: 12.5px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
</style>
</head>
<body>
<main>
<h1>Deliveries as of {{ as_of_date }}</h1>
<p class="lead">Release {{ release_id }}. {{ totals.files }} file{{ "s" if totals.files != 1 }} with {{ "{:,}".format(totals.rows) }} row{{ "s" if totals.rows != 1 }}:
{{ "{:,}".format(totals.accepted) }} accepted, {{ "{:,}".format(totals.superseded) }} superseded by a later version,
{{ "{:,}".format(totals.duplicate) }} duplicate,
<span class="{{ 'bad' if totals.rejected else '' }}">{{ "{:,}".format(totals.rejected) }} rejected</span>.</p>

<h2>Please correct</h2>
{% if not refused and not reasons %}<p>Nothing: every file was read and every row accepted.</p>{% endif %}
{% for file in refused %}
<p><span class="bad">{{ file.file_name }}</span> was refused as a whole: {{ file.refusal_reason }}</p>
{% endfor %}
{% for reason in reasons %}
<p><strong>{{ reason.feed }}: {{ reason.text }}</strong>, in {{ "{:,}".format(reason.rows) }} row{{ "s" if reason.rows != 1 }}</p>
<table class="examples">
  <tr><th>file</th><th class="number">row</th><th>as delivered</th></tr>
  {% for example in reason.examples %}
  <tr><td class="file">{{ example.file_name }}</td><td class="number">{{ example.row_number }}</td>
      <td><code>{{ example.record }}</code></td></tr>
  {% endfor %}
</table>
{% endfor %}

{% if noted %}
<h2>Accepted, but worth a look</h2>
{% for file in noted %}
<p><span class="file">{{ file.file_name }}</span>: {{ file.notes }}</p>
{% endfor %}
<p>Deliver every instant with its offset, such as <code>2025-01-02T00:00:00Z</code>, and a missing value as an
empty one.</p>
{% endif %}

<h2>Checks of the files on arrival</h2>
{% macro table_of(checks) %}
<table>
  <tr><th>feed</th><th>expectation</th><th>severity</th><th class="number">files that break it</th></tr>
  {% for check in checks %}
  <tr><td>{{ check.feed }}</td><td>{{ check.name | replace("_", " ") }}</td><td>{{ check.severity }}</td>
      <td class="number {{ 'bad' if check.failures }}">{{ check.failures }}</td></tr>
  {% endfor %}
</table>
{% endmacro %}
{% if broken %}{{ table_of(broken) }}{% endif %}
{% if failed_checks %}
<table>
  <tr><th>arrived (UTC)</th><th>file</th><th>expectation</th><th>found</th></tr>
  {% for check in failed_checks[:most_checks] %}
  <tr><td>{{ check.arrived_at.strftime("%Y-%m-%d %H:%M") }}</td><td class="file">{{ check.file_name }}</td><td>{{ check.name | replace("_", " ") }}</td>
      <td class="file">{{ check.observed }}</td></tr>
  {% endfor %}
</table>
{% if failed_checks | length > most_checks %}<p>and {{ "{:,}".format(failed_checks | length - most_checks) }} more</p>{% endif %}
{% endif %}
{% if met %}
<details><summary>{{ "{:,}".format(met | length) }} expectation{{ "s" if met | length != 1 }} that every file meets</summary>
{{ table_of(met) }}
</details>
{% endif %}

<h2>Every file</h2>
<table>
  <tr><th>arrived (UTC)</th><th>file</th><th>verdict</th><th class="number">rows</th>
      <th class="number">accepted</th><th class="number">superseded</th><th class="number">duplicate</th>
      <th class="number">rejected</th></tr>
  {% for file in files %}
  <tr><td>{{ file.arrived_at.strftime("%Y-%m-%d %H:%M") }}</td><td class="file">{{ file.file_name }}</td><td>{{ file.verdict }}</td>
      <td class="number">{{ "{:,}".format(file.physical_rows or 0) }}</td>
      <td class="number">{{ "{:,}".format(file.accepted_rows) }}</td>
      <td class="number">{{ "{:,}".format(file.superseded_rows) }}</td>
      <td class="number">{{ "{:,}".format(file.duplicate_rows) }}</td>
      <td class="number {{ 'bad' if file.rejected_rows }}">{{ "{:,}".format(file.rejected_rows) }}</td></tr>
  {% endfor %}
</table>
</main>
</body>
</html>
"""


def page(connection: Connection) -> str:
    """Return the page of a release, as HTML.

    Args:
        connection: The open release.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, finalize=_shown
    )
    return environment.from_string(_TEMPLATE).render(
        **deliveries.for_supplier(connection), most_checks=_MOST_CHECKS
    )


def _shown(value: object) -> object:
    """Escape what is not printable in a text, such as characters that reverse its direction."""
    return clean(value) if type(value) is str else value  # text marked as HTML is ours
