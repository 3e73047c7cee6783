"""One run of a page in Streamlit: it opens one release, queries it, and draws the blocks of the page.

A page queries one open release by its id, so it never mixes two. Choices are stored in the address alone, so
an address can be sent to a colleague; every link carries the release it was made from.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import streamlit as st

from dagster_project.answers.asking import Connection, NotThere, Row, zone_of
from dagster_project.answers.glance import glance
from dagster_project.answers.values import days_in, month
from dagster_project.dashboard import look, saving
from dagster_project.dashboard.blocks import (
    Block,
    Chosen,
    Heading,
    Lead,
    Note,
    Page,
    Table,
    Tiles,
)
from dagster_project.dashboard.charts import ACCENT, INK
from dagster_project.dashboard.pages import NO_CURRENCY, PAGES, heading_of
from dagster_project.releases import current_release
from dagster_project.releases.errors import ReleaseError
from dagster_project.releases.files import is_what_if, release_ids, what_ifs
from dagster_project.releases.questions import asked_in
from dagster_project.releases.read import reading
from dagster_project.settings import Settings

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

    from dagster_project.dashboard.login import Login

TITLE = "Coupon Ledger"
KEPT = ("release", "currency", "month", "program", "plan")
"""The choices that links carry from page to page."""
_ALL = "all"
_WIDTHS = {"type": 250}
_LABELS = {"ends": "Runs out in", "type": "Type of finding"}
_MOST_ROWS, _SEARCHED_FROM = 500, 8
_STYLE = f"""<style>{look.STYLE}
.block-container {{ padding-top: 2.6rem; padding-bottom: 3rem; max-width: 78rem; }}
.cl-top {{ color: {INK}; font-size: .9rem; margin: 0; overflow-wrap: anywhere; }}
.cl-top b {{ font-size: 1.2rem; margin-right: .6rem; }}
.cl-heading {{ padding: 0; }}
.cl-table th button {{ all: unset; cursor: pointer; }}
.cl-table th button:hover {{ text-decoration: underline; }}
.cl-table th[aria-sort=ascending] button::after {{ content: " ↑" / ""; }}
.cl-table th[aria-sort=descending] button::after {{ content: " ↓" / ""; }}
.cl-table tbody tr:hover {{ background: #f6f8fa; }}
.cl-search {{ border: 1px solid #c6ced6; border-radius: 3px; padding: .2rem .5rem; margin-bottom: .3rem; width: 14rem; max-width: 100%; font: inherit; font-size: .86rem; color: {INK}; background: #ffffff; }}
.cl-chart a:hover path {{ opacity: .75; }}
.cl-chart a:focus-visible {{ outline: none; }}
.cl-chart a:focus-visible path {{ stroke: {INK}; stroke-width: 3px; }}
.cl-narrow {{ display: none; }}
a:focus-visible, button:focus-visible, .cl-table:focus-visible, .cl-table th button:focus-visible {{ outline: 3px solid {ACCENT}; outline-offset: 2px; }}
@media (max-width: 640px) {{
  .block-container {{ padding-left: .8rem; padding-right: .8rem; }}
  .cl-wide {{ display: none; }}
  .cl-narrow {{ display: block; }}
}}
</style>"""
_SCRIPT = """<script>
if (!window.couponLedgerTables) {
  window.couponLedgerTables = true;
  const value = (row, place) => row.cells[place].dataset.v;
  document.addEventListener("click", event => {
    const title = event.target.closest(".cl-table th");
    if (!title || !event.target.closest("button")) return;
    const way = title.ariaSort === "ascending" ? "descending" : "ascending";
    for (const other of title.parentNode.cells) if (other.ariaSort) other.ariaSort = "none";
    title.ariaSort = way;
    const isNumber = title.classList.contains("number");
    const compared = (one, other) =>
      isNumber ? Number(one) - Number(other) : one.localeCompare(other, "en", { numeric: true });
    const body = title.closest("table").tBodies[0];
    const rows = [...body.rows].sort((one, other) => {
      const [first, second] = [value(one, title.cellIndex), value(other, title.cellIndex)];
      if (!first || !second) return (first ? 0 : 1) - (second ? 0 : 1);
      return way === "ascending" ? compared(first, second) : compared(second, first);
    });
    body.append(...rows);
  });
  document.addEventListener("input", event => {
    if (!event.target.matches(".cl-search")) return;
    const wanted = event.target.value.trim().toLowerCase();
    for (const row of event.target.closest(".cl-block").querySelectorAll("tbody tr"))
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
</script>"""
"""Sorts and searches every table of the page; it contains no text of a release."""
_figure = st.components.v2.component(
    "coupon_ledger_figure",
    html="<div></div>",
    js="export default ({ data, parentElement }) =>"
    " { parentElement.querySelector('div').innerHTML = data }",
    isolate_styles=False,
)
"""Shows `look.figure`, because Streamlit removes SVG from HTML; its texts are months, programs and amounts."""


def draw(name: str, all_pages: dict[str, StreamlitPage]) -> None:
    """Draw a page.

    Args:
        name: The page's name.
        all_pages: Every page by its name, for the links between them.
    """
    page, make = PAGES[name]
    st.html(_STYLE)
    st.html(_SCRIPT, unsafe_allow_javascript=True)
    settings = Settings()
    wanted = st.query_params.get("release")
    is_open = False
    try:
        newest = current_release(settings.home)
        with (
            reading(settings.home, wanted or newest) as connection,
            days_in(zone_of(connection)),
        ):
            seen = glance(connection)
            # A what-if release is shown by its name, not by its id.
            seen["shown"] = wanted if wanted and is_what_if(wanted) else seen["release_id"]
            question = asked_in(settings.home / seen["shown"])
            seen["asked"] = f"{seen['shown']}." if question is None else question.told
            _top(page, seen, newest, all_pages)
            is_open = True
            ids = sorted({*release_ids(settings.home), seen["shown"]}, reverse=True)
            ids += [one for one in what_ifs(settings.home) if one not in ids]
            chosen = _choose(page, seen, ids, settings.home)
            for block in _blocks(make, connection, chosen):
                _draw(block, seen)
    except ReleaseError as error:
        if not is_open:
            st.html(f'<p class="cl-top"><b>{look.plain(TITLE)}</b></p>')
        st.html(look.note(f"{error.message} {error.remedy}", is_warning=True))
        if wanted:
            st.html(
                f'<p class="cl-note"><a href="{_address(page.name)}">Open the current release</a></p>'
            )


def draw_login(login: Login) -> bool:
    """Draw who is logged in, or a button to log in.

    Args:
        login: The configuration of the log-in.

    Returns:
        Whether the user is logged in and may see the ledger; if not, nothing else may be drawn.
    """
    st.html(_STYLE)
    user = st.user.to_dict()
    if not user.get("is_logged_in"):
        st.html(f'<p class="cl-top"><b>{look.plain(TITLE)}</b></p>')
        st.html(look.note("Log in to see the ledger."))
        st.button("Log in", type="primary", on_click=st.login)
        return False
    who = user.get("email") or user.get("name") or "somebody without a name"
    is_allowed = login.allows(user)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.html(look.note(f"Logged in as {who}."), width="content")
        st.button("Log out", type="tertiary", on_click=st.logout)
    if not is_allowed:
        text = "You may not see the ledger. Ask its operator to add your e-mail address."
        st.html(look.note(text, is_warning=True))
    return is_allowed


def _address(name: str) -> str:
    """Return the address of a page on this server; the first page has none of its own."""
    return "/" if name == next(iter(PAGES)) else f"/{name}"


def _blocks(make: Any, connection: Connection, chosen: Chosen) -> list[Block]:
    """Return the blocks of a page, or what is wrong with the request."""
    try:
        found: list[Block] = make(connection, chosen)
    except NotThere as error:
        near = [*error.near, *error.named, *(one for other in error.others for one in other.ids)]
        hint = f" Similar: {', '.join(near)}." if near else ""
        return [Note(f"{error}.{hint}", is_warning=True)]
    return found


def _top(page: Page, seen: Row, newest: str | None, all_pages: dict[str, StreamlitPage]) -> None:
    """Show the release, and links to the other pages that carry the choices."""
    st.html(f'<p class="cl-top"><b>{look.plain(TITLE)}</b>{look.plain(heading_of(seen))}</p>')
    if newest is not None and newest != seen["shown"]:
        text = (
            "A newer release is current."
            if seen["shown"] < newest
            else "Another release is current."
        )
        if is_what_if(seen["shown"]):
            text = f"Bills under other terms, not the recorded ones: {seen['asked']}"
        address = urlencode({**_kept(seen), "release": newest})
        st.html(
            f'<p class="cl-note warning">{look.plain(text)} <a href="{_address(page.name)}?{look.plain(address)}"'
            f' target="_self">Open {look.plain(newest)}</a></p>'
        )
    with st.container(horizontal=True, gap="small"):
        for name, one in all_pages.items():
            st.page_link(
                one,
                label=f"**{PAGES[name][0].title}**" if name == page.name else PAGES[name][0].title,
                query_params=_kept(seen),
            )


def _kept(seen: Row) -> dict[str, str]:
    """Return what a link carries: the release shown, and the choices."""
    given = st.query_params.to_dict()
    kept = {name: given[name] for name in KEPT if given.get(name)}
    return {**kept, "release": seen["shown"]}


def _choose(page: Page, seen: Row, ids: list[str], home: Path) -> Chosen:
    """Draw the filters and return the choices; a note names each choice that this release does not have."""
    months = [month(one) for one in seen["months"]]
    options = {
        "currency": seen["currencies"] or [NO_CURRENCY],
        "month": [_ALL, *months] if page.name == "trust" else months,
        "program": [_ALL, *seen["programs"]],
        "plan": [_ALL, *seen["plans"]],
        "ends": [_ALL, *(month(one) for one in seen["months_to_come"])],
        "type": [_ALL, *seen["finding_types"]],
    }
    found: dict[str, str] = {}
    missing: list[str] = []
    with st.container(horizontal=True, gap="small"):
        _select("release", ids, seen["shown"], 270, missing)
        for name in page.filters:
            if name == "id":
                found["id"] = _enter(page)
            elif options[name]:
                width = _WIDTHS.get(name, 120)
                found[name] = _select(name, options[name], options[name][0], width, missing)
    for text in missing:
        st.html(look.note(text))
    currency = found.get("currency", options["currency"][0])
    chosen = {name: value for name, value in found.items() if value and value != _ALL}
    return Chosen(**{**chosen, "currency": currency}, home=home, release=seen["shown"])


def _select(name: str, options: list[str], default: str, width: int, missing: list[str]) -> str:
    """Draw a filter and return its choice, which the address stores.

    Args:
        name: The name of the filter.
        options: What can be chosen.
        default: What is chosen unless the address says otherwise.
        width: In pixels.
        missing: Gets a sentence if the address asks for something else.
    """
    wanted = st.query_params.get(name, default)
    if wanted not in options:
        missing.append(f"There is no {name} {wanted!r} in this release: {default} is shown.")
        wanted = default
    key = f"choice_{name}"
    st.session_state[key] = wanted
    st.selectbox(
        _LABELS.get(name, name.capitalize()),
        options,
        key=key,
        width=width,
        on_change=_keep,
        args=(name, key),
        format_func=str,
    )
    return wanted


def _enter(page: Page) -> str:
    """Draw a field for an id and return the id, which the address stores."""
    key = "choice_id"
    st.session_state[key] = st.query_params.get("id", "")
    label = "Id of a workspace" if page.name == "account" else "Id of a bill"
    st.text_input(label, key=key, width=270, on_change=_keep, args=("id", key))
    return st.query_params.get("id", "")


def _keep(name: str, key: str) -> None:
    st.query_params[name] = str(st.session_state[key]).strip()


def _draw(block: Block, seen: Row) -> None:
    if isinstance(block, Heading):
        st.html(look.heading(block.text))
    elif isinstance(block, Note):
        st.html(look.note(block.text, block.is_warning))
    elif isinstance(block, Tiles):
        st.html(look.tiles(block))
    elif isinstance(block, Table):
        _table(block, seen)
    else:
        _figure(data=look.figure(block, partial(_lead, seen)))


def _lead(seen: Row, lead: Lead) -> str:
    """Return the address of a lead, with the current choices kept."""
    return f"{_address(lead.page)}?{urlencode({**_kept(seen), **lead.chosen})}"


def _table(table: Table, seen: Row) -> None:
    """Draw a table that can be sorted and searched, and two buttons to save it."""
    has_search = len(table.rows) >= _SEARCHED_FROM
    name = look.plain(table.name.replace("_", " "))
    search = (
        f'<input type="search" class="cl-search" placeholder="Search" aria-label="Search {name}">'
    )
    st.html(
        f'<div class="cl-block">{search if has_search else ""}'
        + look.table(table, _MOST_ROWS, partial(_lead, seen), is_sorted_by_click=True)
        + look.left_out(table, _MOST_ROWS, "save the table to get all of them.")
        + "</div>"
    )
    if not table.rows:
        return
    with st.container(horizontal=True, gap="small"):
        name = f"{table.name}-{seen['shown'].replace('/', '-')}"
        title = f"{TITLE}: release {seen['shown']}, as of {seen['as_of_date']}"
        if is_what_if(seen["shown"]):
            title += f". {seen['asked']}"
        st.download_button(
            "CSV",
            partial(saving.as_csv, table),
            f"{name}.csv",
            "text/csv",
            key=f"csv_{table.name}",
            on_click="ignore",
            type="tertiary",
            help=f"Save {table.name} as CSV",
        )
        st.download_button(
            "xlsx",
            partial(saving.as_xlsx, table, title),
            f"{name}.xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            key=f"xlsx_{table.name}",
            on_click="ignore",
            type="tertiary",
            help=f"Save {table.name} as xlsx",
        )
