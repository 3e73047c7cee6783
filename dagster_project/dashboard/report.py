"""The report: the pages of a release as one HTML file, readable without network or scripts.

It has the charts of the dashboard as SVG and the same numbers as text, and prints on A4 and Letter.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dagster_project.answers.asking import Connection, NotThere, remembering, zone_of
from dagster_project.answers.glance import glance
from dagster_project.answers.values import days_in, month
from dagster_project.dashboard import look
from dagster_project.dashboard.blocks import Block, Chosen, Heading, Note, Table, Tiles
from dagster_project.dashboard.charts import ACCENT, FAINT, INK
from dagster_project.dashboard.pages import (
    NO_CURRENCY,
    NOTHING_YET,
    PAGES,
    deliveries_of,
    findings_of,
    heading_of,
)
from dagster_project.releases.questions import Question

_MOST_ROWS = 25
_STYLE = f"""{look.STYLE}
body {{ font: 15px/1.45 "Source Sans 3", system-ui, sans-serif; color: {INK}; max-width: 62rem; margin: 1.5rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.7rem; margin: 0; }}
.lead {{ color: {FAINT}; margin: .2rem 0 1rem; }}
nav a {{ color: {ACCENT}; margin-right: 1rem; }}
.page-title {{ font-size: 1.3rem; border-bottom: 3px solid {ACCENT}; padding-bottom: .2rem; margin: 2.2rem 0 .8rem; }}
.cl-table {{ max-height: none; margin: .5rem 0 .8rem; }}
@page {{ margin: 14mm; }}
@media print {{
  body {{ font-size: 10pt; margin: 0; max-width: none; padding: 0; }}
  nav {{ display: none; }}
  .cl-table table {{ font-size: 7pt; }}
  .cl-table th, .cl-table td {{ padding: 1.5pt 3pt; }}
  .cl-table td.prose {{ min-width: 0; }}
  .cl-tiles {{ grid-template-columns: repeat(4, 1fr); }}
  .cl-tile {{ padding: 4pt 6pt; }}
  .cl-tile .value {{ font-size: 10.5pt; }}
  .cl-tile .label, .cl-tile .note {{ font-size: 8pt; }}
  .cl-tiles {{ break-after: avoid; }}
  .cl-note {{ font-size: 8pt; }}
  .cl-table th {{ position: static; }}
  .cl-table {{ overflow: visible; }}
  .currency + .currency {{ break-before: page; }}
  tr, .cl-tile {{ break-inside: avoid; }}
  thead {{ display: table-header-group; }}
  h1, h2, h3 {{ break-after: avoid; }}
  * {{ -webkit-print-color-adjust: exact; print-color-adjust: exact; }}
}}
"""


def report(
    connection: Connection,
    wanted: str | None = None,
    *,
    home: Path | None = None,
    question: Question | None = None,
) -> str:
    """Return the report of a release, as HTML.

    Args:
        connection: The open release.
        wanted: The month of the monthly pages, as 2024-02; the last with bills unless given.
        home: The data home, from which closed months and what-ifs are read; without it they are left out.
        question: The what-if question that the release answers, if any.

    Raises:
        NotThere: No currency has bills of that month.
    """
    with remembering(), days_in(zone_of(connection)):
        return _report(connection, wanted, home, question)


def _report(
    connection: Connection, wanted: str | None, home: Path | None, question: Question | None
) -> str:
    seen = glance(connection)
    release = seen["release_id"] if question is None else question.release_id
    known = [month(one) for one in seen["months"]]
    if wanted is not None and wanted not in known:
        raise NotThere("month", wanted, known=sorted(known))
    parts, links = [], []
    if question is not None:
        parts.append(look.note(question.told, is_warning=True))
    if not seen["currencies"]:
        parts.append(look.note(NOTHING_YET))
    for currency in seen["currencies"] or [NO_CURRENCY]:
        named = "no currency" if currency == NO_CURRENCY else currency
        links.append(f'<a href="#{look.plain(currency)}">{look.plain(named)}</a>')
        chosen = Chosen(currency, month=wanted, home=home, release=release)
        parts.append(f'<section class="currency" id="{look.plain(currency)}">')
        for name, (page, make) in PAGES.items():
            if not page.has_report or (currency == NO_CURRENCY and name != "trust"):
                continue
            parts.append(
                f'<h1 class="page-title">{look.plain(page.title)}, {look.plain(named)}</h1>'
            )
            try:
                blocks = (
                    findings_of(connection, replace(chosen, month=None))
                    if name
                    == "trust"  # a finding stays open until it is corrected, whatever its month
                    else make(connection, chosen)
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
    if question is not None:
        title += f", {question.release_id}"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy"'
        " content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{look.plain(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<h1>{look.plain(title)}</h1>\n<p class="lead">{look.plain(heading_of(seen))} Amounts are per'
        f" currency and before tax.</p>\n<nav>{''.join(links)}</nav>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def _shown(block: Block) -> str:
    if isinstance(block, Heading):
        return look.heading(block.text)
    if isinstance(block, Note):
        return look.note(block.text, block.is_warning)
    if isinstance(block, Tiles):
        return look.tiles(block)
    if isinstance(block, Table):
        most = _MOST_ROWS if block.is_long else len(block.rows)
        return look.table(block, most) + look.left_out(block, most, "the dashboard has all.")
    return look.figure(block, on_paper=True)
