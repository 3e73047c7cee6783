"""The script that Streamlit runs for every page: it declares the pages and draws the requested one."""

from __future__ import annotations

from functools import partial

import streamlit as st

from dagster_project.dashboard import login
from dagster_project.dashboard.drawing import TITLE, draw, draw_login
from dagster_project.dashboard.pages import PAGES
from dagster_project.settings import Settings


def main() -> None:
    """Draw the page that the address names, for a user who may see it."""
    st.set_page_config(page_title=TITLE, layout="wide", initial_sidebar_state="collapsed")
    file = Settings().login_file
    if file is not None and not draw_login(login.read(file)):
        return
    pages: dict[str, st.Page] = {}
    for name, (page, _) in PAGES.items():
        pages[name] = st.Page(
            partial(draw, name, pages),
            title=page.title,
            url_path=name,
            default=name == next(iter(PAGES)),
        )
    st.navigation(list(pages.values()), position="hidden").run()


if __name__ == "__main__":
    main()
