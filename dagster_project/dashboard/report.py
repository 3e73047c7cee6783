"""The report: the pages of a release as one HTML file, which needs no network and no script to be read.

It has the charts of the dashboard as SVG and the same numbers as text, and prints on A4 and Letter.
"""

from __future__ import annotations

from dagster_project.answers.asking import Connection, NotThere
from dagster_project.answers.glance import glance
from dagster_project.answers.values import count, month
from dagster_project.dashboard import look
from dagster_project.dashboard.blocks import NUMBERS, Block, Chosen, Heading, Note, Table, Tiles
from dagster_project.dashboard.charts import ACCENT, FAINT, INK, svg
from dagster_project.dashboard.pages import PAGES, deliveries_of, findings_of, heading_of

_MOST_ROWS = 25
_STYLE = f"""{look.STYLE}
body {{ font: 15px/1.45 "Source Sans 3", system-ui, sans-serif; color: {INK}; max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.7rem; margin: 0; }}
.lead {{ color: {FAINT}; margin: .2rem 0 1rem; }}
nav a {{ color: {ACCENT}; margin-right: 1rem; }}
.page-title {{ font-size: 1.3rem; border-bottom: 3px solid {ACCENT}; padding-bottom: .2rem; margin: 2.2rem 0 .8rem; }}
.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; margin: .5rem 0 .8rem; font-size: .82rem; }}
th, td {{ text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #dfe4ea; vertical-align: top; overflow-wrap: anywhere; }}
th {{ color: {FAINT}; font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }}
.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
figure {{ margin: .4rem 0; break-inside: avoid; }}
svg {{ max-width: 100%; height: auto; }}
@page {{ margin: 14mm; }}
@media print {{
  body {{ font-size: 10pt; margin: 0; max-width: none; padding: 0; }}
  nav {{ display: none; }}
  table {{ font-size: 7pt; }}
  th, td {{ padding: 1.5pt 3pt; }}
  .table {{ overflow: visible; }}
  .currency + .currency {{ break-before: page; }}
  tr, .cl-tile {{ break-inside: avoid; }}
  thead {{ display: table-header-group; }}
  h2, h3 {{ break-after: avoid; }}
  * {{ -webkit-print-color-adjust: exact; print-color-adjust: exact; }}
}}
"""


def report(connection: Connection, wanted: str | None = None) -> str:
    """Return the report of a release, as HTML.

    Args:
        connection: The open release.
        wanted: The month of the monthly pages, as 2024-02; the last with bills unless given.

    Raises:
        NotThere: No currency has bills of that month.
    """
    seen = glance(connection)
    known = [month(one) for one in seen["months"]]
    if wanted is not None and wanted not in known:
        raise NotThere("month", wanted, known=sorted(known))
    parts, links = [], []
    for currency in seen["currencies"]:
        links.append(f'<a href="#{look.plain(currency)}">{look.plain(currency)}</a>')
        chosen = Chosen(currency, month=wanted)
        parts.append(f'<section class="currency" id="{look.plain(currency)}">')
        for name, (page, make) in PAGES.items():
            if not page.has_report:
                continue
            parts.append(
                f'<h1 class="page-title">{look.plain(page.title)}, {look.plain(currency)}</h1>'
            )
            try:
                blocks = (
                    findings_of(connection, chosen) if name == "trust" else make(connection, chosen)
                )
            except NotThere:
                blocks = [Note(f"There is nothing in {currency} in {wanted}.")]
            parts += map(_shown, blocks)
        parts.append("</section>")
    links.append('<a href="#deliveries">Deliveries and checks</a>')
    parts.append(
        '<section class="currency" id="deliveries"><h1 class="page-title">Deliveries and checks</h1>'
    )
    parts += map(_shown, deliveries_of(connection))
    parts.append("</section>")
    title = f"Coupon Ledger, {wanted or 'as of ' + str(seen['as_of_date'])}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{look.plain(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{look.plain(title)}</h1>\n<p class="lead">{look.plain(heading_of(seen))} Amounts are per'
        f" currency and before tax.</p>\n<nav>{''.join(links)}</nav>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _shown(block: Block) -> str:
    if isinstance(block, Heading):
        return look.heading(block.text)
    if isinstance(block, Note):
        return look.note(block.text, block.is_warning)
    if isinstance(block, Tiles):
        return look.tiles(block)
    if isinstance(block, Table):
        return _table(block)
    return f'<figure role="img" aria-label="{look.plain(block.title)}">{svg(block)}</figure>'


def _table(table: Table) -> str:
    if not table.rows:
        return look.note(table.empty)
    shown = table.rows[:_MOST_ROWS] if table.is_long else table.rows
    classes = [' class="number"' if one.kind in NUMBERS else "" for one in table.columns]
    head = "".join(
        f'<th scope="col"{kind}>{look.plain(one.title)}</th>'
        for kind, one in zip(classes, table.columns, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{kind}>{look.plain(table.text(row, one))}</td>"
            for kind, one in zip(classes, table.columns, strict=True)
        )
        + "</tr>\n"
        for row in shown
    )
    more = len(table.rows) - len(shown)
    left_out = look.note(f"{count(more, 'more row')}: the dashboard has all.") if more else ""
    return (
        f'<div class="table"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
        + left_out
    )
