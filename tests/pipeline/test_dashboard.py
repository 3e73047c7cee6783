"""The dashboard in a real browser, and the report: what they show is what the release says.

A second release is made from the first by giving it another id and its workspaces hostile names, so that
every test knows what differs between the two.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import duckdb
import openpyxl
import pytest
from playwright.sync_api import Locator, Page, expect

from dagster_project.dashboard.pages import PAGES
from dagster_project.releases import current_release, open_release
from dagster_project.releases.files import flip, release_path, releases_dir
from dagster_project.settings import CHECKOUT
from tests import browser
from tests.pipeline.conftest import SampleRun, coupon_ledger
from tests.receivers import free_port

with warnings.catch_warnings(record=True):  # authlib's for its programmers come whatever is ignored
    from oidc_provider_mock import User, run_server_in_thread

HOSTILE = "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>[a](javascript:b) **c** $d$"
PATIENCE = 60_000
WORKSPACE, BILL = "ws_00014", "in_00014_022"


@dataclass
class Served:
    """A dashboard that is running.

    Attributes:
        home: Its data home.
        port: Of 127.0.0.1.
        first: The release of the sample.
        second: The same with hostile names, kept beside it.
    """

    home: Path
    port: int
    first: str
    second: str

    def address(self, name: str, **query: str) -> str:
        """The address of a page."""
        path = "" if name == "month" else name
        asked = "&".join(f"{key}={value}" for key, value in query.items())
        return f"http://127.0.0.1:{self.port}/{path}?{asked}"

    def open(self, page: Page, name: str, **query: str) -> None:
        """Open a page and wait until it is drawn."""
        page.goto(self.address(name, **query))
        drawn(page)

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Ask the first release."""
        with open_release(self.home, self.first) as connection:
            return connection.execute(sql).fetchall()


def drawn(page: Page) -> None:
    """Wait until Streamlit has run the page."""
    page.wait_for_selector(".cl-top", timeout=PATIENCE)
    page.wait_for_selector("[data-test-script-state=notRunning]", timeout=PATIENCE)


def tile(page: Page, label: str) -> str:
    """The number of a tile."""
    return page.locator(".cl-tile", has_text=label).locator(".value").first.inner_text()


def saves(page: Page, table: str, kind: str) -> Locator:
    """The button that saves a table."""
    return page.locator(f".st-key-{kind}_{table}").get_by_role("button")


@contextlib.contextmanager
def serving(home: Path, folder: Path, port: int = 0, **environment: str) -> Iterator[int]:
    """A dashboard of a data home, on a port of its own."""
    port = port or free_port()
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "dagster_project.cli", "dashboard"),
                *("--home", str(home), "--port", str(port)),
            ],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5)
                    break
                except OSError:
                    is_running = process.poll() is None and time.monotonic() < until
                    assert is_running, (folder / "log").read_text()
            yield port
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def served(sample_run: SampleRun, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    assert sample_run.result.returncode == 0, sample_run.result.stderr
    home = tmp_path_factory.mktemp("dashboard") / "home"
    shutil.copytree(sample_run.home, home, symlinks=True)
    first = current_release(home)
    assert first is not None
    second = "20990101T000000Z-0000abcd"
    shutil.copytree(releases_dir(home) / first, releases_dir(home) / second)
    path = release_path(home, second)
    path.chmod(0o600)
    with duckdb.connect(path) as connection:
        connection.execute("update release.release set release_id = ?", [second])
        connection.execute("update marts.dim_workspaces set workspace_name = ?", [HOSTILE])
    path.chmod(0o440)
    with serving(home, tmp_path_factory.mktemp("log")) as port:
        yield Served(home, port, first, second)


@pytest.mark.parametrize("name", PAGES)
def test_each_page_opens_and_says_which_release_it_is_of(
    served: Served, page: Page, name: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    about = {"account": {"id": WORKSPACE}, "bill": {"id": BILL}}.get(name, {})
    served.open(page, name, release=served.first, **about)
    top = page.locator(".cl-top").inner_text()
    [(checks,)] = served.ask("select count(*) from release.checks")
    [(open_findings,)] = served.ask(
        "select count(*) from marts.fct_audit_findings where review_status = 'open'"
    )
    assert served.first in top
    assert "as of 2025-12-31" in top
    assert f"of {checks} checks passed" in top
    assert f"{open_findings} open finding" in top
    expect(page.locator(".cl-heading").first).to_be_visible()
    expect(page.get_by_test_id("stException")).to_have_count(0)
    local = f"127.0.0.1:{served.port}"
    assert [url for url in asked if urlsplit(url).netloc not in (local, "")] == []


def test_the_amounts_of_a_month_are_those_of_sql(served: Served, page: Page) -> None:
    [(net, listed)] = served.ask(
        "select sum(net_amount), sum(list_amount) from marts.fct_discounted_charges"
        " where currency = 'EUR' and billing_month = date '2025-03-01'"
    )
    served.open(page, "month", release=served.first, currency="EUR", month="2025-03")
    assert tile(page, "Net") == f"{net:,.2f} EUR"
    cells = page.locator("canvas[data-testid=data-grid-canvas] td")
    expect(cells.first).to_be_attached(timeout=PATIENCE)
    # What a screen reader is told: the bare number. Drawn is the text beside it, in a picture.
    assert str(Decimal(str(listed)).normalize()) in cells.all_inner_texts()


def test_a_currency_is_chosen_by_keyboard_and_kept_in_the_address(
    served: Served, page: Page
) -> None:
    served.open(page, "month", release=served.first, month="2025-03")
    page.get_by_role("combobox", name="Currency").focus()
    page.keyboard.type("GBP")
    page.keyboard.press("Enter")
    [(net,)] = served.ask(
        "select sum(net_amount) from marts.fct_discounted_charges"
        " where currency = 'GBP' and billing_month = date '2025-03-01'"
    )
    expect(page.locator(".cl-tile .value").first).to_have_text(f"{net:,.2f} GBP", timeout=PATIENCE)
    assert parse_qs(urlsplit(page.url).query)["currency"] == ["GBP"]
    assert "USD" not in page.locator(".cl-tiles").inner_text()


def test_a_link_to_another_page_keeps_release_and_filters(served: Served, page: Page) -> None:
    served.open(page, "month", currency="EUR", month="2025-03")
    page.get_by_role("link", name="Percent-off").click()
    page.wait_for_url("**/percent-off?*", timeout=PATIENCE)
    drawn(page)
    kept = parse_qs(urlsplit(page.url).query)
    assert kept == {"release": [served.first], "currency": ["EUR"], "month": ["2025-03"]}


def test_a_row_leads_to_its_workspace(served: Served, page: Page) -> None:
    served.open(page, "bill", release=served.first, id=BILL)
    facts = page.get_by_test_id("stDataFrame").nth(1)
    expect(facts.locator("td").first).to_be_attached(timeout=PATIENCE)
    page.wait_for_load_state("networkidle")
    with page.expect_popup(timeout=PATIENCE) as popup:
        # The grid takes a click for one on the link once it has seen the pointer over it.
        facts.hover(position={"x": 40, "y": 53})
        facts.click(position={"x": 30, "y": 53}, delay=100)
    drawn(popup.value)
    address = urlsplit(popup.value.url)
    assert address.path == "/account"
    assert parse_qs(address.query) == {"release": [served.first], "id": [WORKSPACE]}
    expect(popup.value.locator(".cl-heading").first).to_contain_text(WORKSPACE)


def test_an_id_that_is_not_there_is_said_and_nothing_else(served: Served, page: Page) -> None:
    served.open(page, "bill", id="in_<b>nothing")
    expect(page.locator(".cl-note.warning")).to_contain_text("There is no invoice 'in_<b>nothing'")
    assert page.locator(".cl-note b").count() == 0


def test_a_release_published_meanwhile_is_shown_and_an_old_one_stays(
    served: Served, page: Page
) -> None:
    served.open(page, "month")
    assert served.first in page.locator(".cl-top").inner_text()
    flip(served.home, served.second)
    try:
        served.open(page, "month")
        assert served.second in page.locator(".cl-top").inner_text()
        served.open(page, "trust", release=served.first)
        assert served.first in page.locator(".cl-top").inner_text()
        expect(page.locator(".cl-note.warning").first).to_contain_text("A newer release is served")
        page.locator(".cl-note.warning a").click()
        expect(page.locator(".cl-top")).to_contain_text(served.second, timeout=PATIENCE)
    finally:
        flip(served.home, served.first)


def test_hostile_names_do_nothing(served: Served, page: Page) -> None:
    served.open(page, "account", release=served.second, id=WORKSPACE)
    expect(page.locator(".cl-heading").first).to_contain_text(HOSTILE)
    served.open(page, "ahead", release=served.second)
    assert page.evaluate("window.harmed") is None
    assert page.locator("img[src=x], a[href^=javascript]").count() == 0


@pytest.mark.parametrize("name", ["month", "trust", "account"])
def test_a_page_fits_a_narrow_screen(served: Served, tmp_path: Path, name: str) -> None:
    with browser.opened(tmp_path / "chromium", width=400) as page:
        served.open(page, name, release=served.first, id=WORKSPACE)
        wide = page.evaluate(
            "(() => { const main = document.querySelector('[data-testid=stMain]');"
            " return main.scrollWidth - main.clientWidth })()"
        )
        assert wide == 0
        assert all(
            (box := link.bounding_box()) is not None and box["x"] + box["width"] <= 400
            for link in page.get_by_test_id("stPageLink").all()
        )


def test_a_table_is_saved_with_every_place_of_its_amounts(served: Served, page: Page) -> None:
    served.open(page, "month", release=served.first, currency="USD", month="2025-11")
    [(net,)] = served.ask(
        "select sum(net_amount) from marts.fct_discounted_charges"
        " where currency = 'USD' and billing_month = date '2025-11-01'"
    )
    with page.expect_download(timeout=PATIENCE) as download:
        saves(page, "months", "csv").click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text("utf-8"))))
    assert (rows[0]["month"], Decimal(rows[0]["net_amount"])) == ("2025-11-01", net)
    assert rows[0]["currency"] == "USD"
    with page.expect_download(timeout=PATIENCE) as download:
        saves(page, "months", "xlsx").click()
    sheet = openpyxl.load_workbook(io.BytesIO(download.value.path().read_bytes())).active
    assert sheet is not None
    assert float(str(net)) in [cell.value for row in sheet.iter_rows() for cell in row]


def test_only_who_has_logged_in_and_may_look_sees_the_page_asked_for(
    sample_run: SampleRun, tmp_path: Path
) -> None:
    port = free_port()
    emails = {"ada": "Ada@example.com", "bob": "bob@example.org"}
    users = [User(sub=name, claims={"email": email}) for name, email in emails.items()]
    with run_server_in_thread(user_claims=users) as provider:
        file = tmp_path / "login.toml"
        file.write_text(
            f"""
            [auth]
            redirect_uri = "http://localhost:{port}/oauth2callback"
            cookie_secret = "{"0123456789abcdef" * 2}"
            client_id = "ledger"
            client_secret = "known to both"
            server_metadata_url = "http://localhost:{provider.server_port}/.well-known/openid-configuration"
            [access]
            emails = ["@example.com"]
            """,
            "utf-8",
        )
        with serving(sample_run.home, tmp_path, port, COUPON_LEDGER_LOGIN_FILE=str(file)):
            for name, sees_it in (("bob", False), ("ada", True)):
                with browser.opened(tmp_path / name) as page:
                    page.goto(f"http://localhost:{port}/percent-off?currency=EUR&month=2025-03")
                    page.get_by_role("button", name="Log in").click(timeout=PATIENCE)
                    page.locator("input[name=sub]").fill(name, timeout=PATIENCE)
                    assert page.locator(".cl-top").count() == 0
                    page.get_by_role("button", name="Authorize").click()
                    expect(page.get_by_text(f"Logged in as {emails[name]}")).to_be_visible(
                        timeout=PATIENCE
                    )
                    if sees_it:
                        drawn(page)
                        asked = urlsplit(page.url)
                        assert asked.path == "/percent-off"
                        assert parse_qs(asked.query)["currency"] == ["EUR"]
                        expect(page.locator(".cl-tile").first).to_be_visible(timeout=PATIENCE)
                    else:
                        expect(page.locator(".cl-note.warning")).to_contain_text("You may not see")
                        assert page.locator(".cl-tile, .cl-top").count() == 0


def test_without_a_log_in_other_machines_are_not_served(tmp_path: Path) -> None:
    result = coupon_ledger("dashboard", "--home", tmp_path, "--host", "0.0.0.0")
    assert result.returncode == 2
    assert "The dashboard is not served on 0.0.0.0 without a log-in" in result.stderr
    assert "COUPON_LEDGER_LOGIN_FILE" in result.stderr


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [("Host", "other.test", 400), ("Origin", "http://other.test", 403), ("Accept", "*/*", 200)],
)
def test_other_sites_are_refused(served: Served, header: str, value: str, code: int) -> None:
    request = urllib.request.Request(served.address("month"), headers={header: value})
    try:
        found = urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        found = error.code
    assert found == code


def test_the_report_has_the_numbers_of_the_release_and_no_script(
    served: Served, page: Page, tmp_path: Path
) -> None:
    target = tmp_path / "report.html"
    result = coupon_ledger(
        "report",
        "--home",
        served.home,
        "--release",
        served.second,
        "--month",
        "2025-11",
        "--out",
        target,
    )
    assert result.returncode == 0, result.stderr
    text = target.read_text("utf-8")
    [(listed, net)] = served.ask(
        "select sum(list_amount), sum(net_amount) from marts.fct_discounted_charges"
        " where currency = 'USD' and billing_month = date '2025-11-01'"
    )
    assert f'<td class="number">{net:,.2f}</td>' in text
    drawn_bar = re.search(r'aria-label="step: List; start: 0; end: ([0-9.]+)"', text) or re.search(
        rf"{re.escape(f'{listed:,.2f}')}</text>", text
    )
    assert drawn_bar is not None
    assert "<script" not in text
    assert "user_id" not in text
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(target.as_uri())
    assert asked == [target.as_uri()]
    assert page.evaluate("window.harmed") is None
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_month_that_is_not_there_makes_no_report(served: Served, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    result = coupon_ledger("report", "--home", served.home, "--month", "1999-01", "--out", target)
    assert result.returncode == 2
    assert "There is no month '1999-01'" in result.stderr
    assert not target.exists()
