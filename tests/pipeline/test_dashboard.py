"""The dashboard in a real browser, and the report: what they show is what the release says.

A second release is made from the first by giving it another id and its workspaces hostile names, so that
every test knows what differs between the two.
"""

from __future__ import annotations

import contextlib
import csv
import html
import io
import json
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
from urllib.parse import parse_qs, urlencode, urlsplit

import duckdb
import openpyxl
import pytest
from playwright.sync_api import Locator, Page, expect

from dagster_project.dashboard.pages import PAGES
from dagster_project.releases import current_release, open_release
from dagster_project.releases.files import REPORT_NAME, flip, release_path, releases_dir
from dagster_project.settings import CHECKOUT
from tests.pipeline.conftest import SampleRun, coupon_ledger
from tests.receivers import free_port

with warnings.catch_warnings(record=True):  # authlib warns its programmers whatever is ignored
    from oidc_provider_mock import User, run_server_in_thread

HOSTILE = (
    "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script><svg/onload=window.harmed=1>"
    "[a](javascript:window.harmed=1) **b** $c$ `d` :red[e] :smile: :material/delete:"
)
PATIENCE = 60_000
NEW = (
    "fct_credit_draws", "fct_credit_notes", "fct_charge_bridge_monthly", "fct_program_budget_monthly",
    "fct_bill_outlook_monthly",
)  # fmt: skip
WORKSPACE, BILL = "ws_00014", "in_00014_022"


@dataclass
class Served:
    """A dashboard that is running.

    Attributes:
        home: Its data home.
        port: Its port on 127.0.0.1.
        first: The release of the sample.
        second: The same with hostile names, ids and files, kept beside it.
        old: The same as version 0.4 made it: a file, without the marts that are new.
    """

    home: Path
    port: int
    first: str
    second: str
    old: str

    def address(self, name: str, **query: str) -> str:
        """The address of a page."""
        path = "" if name == "month" else name
        return f"http://127.0.0.1:{self.port}/{path}?{urlencode(query)}"

    def open(self, page: Page, name: str, **query: str) -> None:
        """Open a page and wait until it is drawn."""
        page.goto(self.address(name, **query))
        drawn(page)

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Query the first release."""
        with open_release(self.home, self.first) as connection:
            return connection.execute(sql).fetchall()


def drawn(page: Page) -> None:
    """Wait until Streamlit has run the page."""
    page.wait_for_selector(".cl-top", timeout=PATIENCE)
    page.wait_for_selector("[data-test-script-state=notRunning]", timeout=PATIENCE)


def table(page: Page, name: str) -> Locator:
    """A table of a page by its name."""
    return page.locator(f".cl-table[aria-label='{name}']")


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
    second, old = "20990101T000000Z-0000abcd", "20200101T000000Z-0000abcd"
    shutil.copytree(releases_dir(home) / first, releases_dir(home) / second)
    with altered(home, second) as connection:
        connection.execute("update marts.dim_workspaces set workspace_name = ?", [HOSTILE])
        connection.execute("update release.deliveries set file_name = file_name || ?", [HOSTILE])
        connection.execute("update release.rejected_rows set reasons = [?]", [HOSTILE])
        for column in ("coupon_id", "invoice_id", "plan"):
            for (name,) in connection.execute(
                "select table_name from duckdb_columns() where schema_name = 'marts'"
                f" and column_name = '{column}'"
            ).fetchall():
                connection.execute(f"update marts.{name} set {column} = {column} || ?", [HOSTILE])
    earlier = releases_dir(home) / f"{old}.duckdb"
    shutil.copyfile(release_path(home, first), earlier)
    with altered(home, old) as connection:
        connection.execute("update release.release set code_version = '0.4.0'")
        for name in NEW:
            connection.execute(f"drop table marts.{name}")
            connection.execute(f"delete from release.tables where table_name = '{name}'")
    with serving(home, tmp_path_factory.mktemp("log")) as port:
        yield Served(home, port, first, second, old)


@contextlib.contextmanager
def altered(home: Path, release_id: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A copy of a release to change, under its own id."""
    path = release_path(home, release_id)
    path.chmod(0o600)
    with duckdb.connect(path) as connection:
        connection.execute("update release.release set release_id = ?", [release_id])
        yield connection
    path.chmod(0o440)


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
    first_row = table(page, "bridge").locator("tbody tr").first
    expect(first_row.locator("td").nth(1)).to_have_text(f"{listed:,.2f}", timeout=PATIENCE)
    bar = page.locator(".cl-wide path[aria-roledescription=bar]").first
    expect(bar).to_have_attribute("aria-label", f"List: {listed:,.2f} EUR", timeout=PATIENCE)


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
    chosen = {"currency": "EUR", "month": "2025-03", "plan": "team", "program": "special"}
    served.open(page, "month", **chosen)
    for link, name in (("Percent-off", "percent-off"), ("Credit", "credit"), ("Ahead", "ahead")):
        page.get_by_role("link", name=link, exact=True).click()
        page.wait_for_url(f"**/{name}?*", timeout=PATIENCE)
        drawn(page)
        kept = parse_qs(urlsplit(page.url).query)
        assert kept == {"release": [served.first], **{one: [chosen[one]] for one in chosen}}
        expect(page.get_by_text("Only workspaces whose last bill is of plan team.")).to_be_visible()


def test_a_bar_leads_by_keyboard_to_its_program_a_workspace_a_bill_and_the_delivered_row(
    served: Served, page: Page
) -> None:
    def follow(link: Locator) -> dict[str, list[str]]:
        expect(link).to_be_visible(timeout=PATIENCE)
        before = page.url
        link.focus()
        page.keyboard.press("Enter")
        page.wait_for_url(lambda address: address != before, timeout=PATIENCE)
        drawn(page)
        return parse_qs(urlsplit(page.url).query)

    served.open(page, "month", release=served.first, currency="USD", month="2025-11")
    bar = page.locator(".cl-wide a[aria-label^='2025-06, given']")
    assert follow(bar)["month"] == ["2025-06"]
    program = table(page, "programs").locator("tbody a").first
    [(workspace_id, invoice_id)] = served.ask(
        """
        select fct_discounted_charges.workspace_id, invoice_id
        from marts.fct_discount_applications
        inner join marts.dim_coupons using (coupon_id)
        inner join marts.fct_discounted_charges using (invoice_id)
        where billing_month = date '2025-06-01' and fct_discounted_charges.currency = 'USD'
            and program = 'accelerator'
        group by all order by sum(fct_discount_applications.discount_amount) desc limit 1
        """
    )
    assert follow(program) == {
        "release": [served.first], "currency": ["USD"], "month": ["2025-06"],
        "program": ["accelerator"],
    }  # fmt: skip
    gift = table(page, "gifts").locator("tbody tr").first
    assert follow(gift.get_by_role("link", name=str(workspace_id)))["id"] == [workspace_id]
    page.go_back()
    assert follow(table(page, "gifts").get_by_role("link", name=str(invoice_id)))["id"] == [
        invoice_id
    ]
    [(row,)] = served.ask(
        "select 'row ' || delivery_row from marts.fct_discounted_charges"
        f" where invoice_id = '{invoice_id}'"
    )
    expect(page.locator(".cl-note", has_text="Delivered in")).to_contain_text(
        f"{row}, which arrived", timeout=PATIENCE
    )


def test_a_table_is_sorted_and_searched(served: Served, page: Page) -> None:
    served.open(page, "month", release=served.first, currency="USD", month="2025-11")
    months = table(page, "months")
    title = months.get_by_role("button", name="Credit", exact=True)
    title.click(timeout=PATIENCE)
    title.click()
    [(most,)] = served.ask(
        "select max(amount) from (select sum(credit_amount) as amount"
        " from marts.fct_charge_bridge_monthly where currency = 'USD'"
        " and bridge_month between date '2024-12-01' and date '2025-11-01' group by bridge_month)"
    )
    credit = months.locator("tbody tr").first.locator("td").nth(5)
    expect(credit).to_have_text(f"{most:,.2f}")
    expect(months.locator("th[aria-sort=descending]")).to_have_text("Credit")
    page.get_by_role("searchbox", name="Search months").fill("2025-03")
    expect(months.locator("tbody tr:visible")).to_have_count(1)


def test_findings_of_one_type_and_month_add_up_to_those_of_sql(served: Served, page: Page) -> None:
    [(number, stake)] = served.ask(
        "select count(*), sum(amount_at_stake) from marts.fct_audit_findings"
        " where finding_type = 'over_discounted' and currency = 'USD'"
    )
    served.open(page, "trust", release=served.first, currency="USD", type="over_discounted")
    expect(page.locator(".cl-tile .value").first).to_have_text(str(number), timeout=PATIENCE)
    assert tile(page, "At stake") == f"{stake:,.2f} USD"
    [(effect,)] = served.ask(
        "select -sum(discount_variance_amount) from marts.fct_audit_findings"
        " inner join marts.fct_discounted_charges using (invoice_id)"
        " where finding_type = 'over_discounted' and fct_audit_findings.currency = 'USD'"
    )
    assert tile(page, "Billed too much or little") == f"{effect:,.2f} USD"


def test_an_old_release_opens_or_says_what_it_lacks(served: Served, page: Page) -> None:
    served.open(page, "trust", release=served.old)
    expect(table(page, "findings by type")).to_be_visible(timeout=PATIENCE)
    served.open(page, "month", release=served.old)
    told = page.locator(".cl-note.warning").last
    expect(told).to_contain_text(f"Release {served.old} made by version 0.4.0", timeout=PATIENCE)
    expect(told).to_contain_text("fct_charge_bridge_monthly")
    page.get_by_role("link", name="Open the current release").click()
    expect(page.locator(".cl-tile").first).to_be_visible(timeout=PATIENCE)
    assert served.first in page.locator(".cl-top").inner_text()


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
        expect(page.locator(".cl-note.warning").first).to_contain_text("A newer release is current")
        page.locator(".cl-note.warning a").click()
        expect(page.locator(".cl-top")).to_contain_text(served.second, timeout=PATIENCE)
    finally:
        flip(served.home, served.first)


def test_hostile_names_ids_and_files_do_nothing(served: Served, page: Page) -> None:
    for name, about in (
        ("account", {"id": WORKSPACE}),
        ("bill", {"id": BILL + HOSTILE}),
        ("ahead", {}),
        ("trust", {"type": HOSTILE}),
        ("month", {"program": "special", "currency": HOSTILE}),
    ):
        served.open(page, name, release=served.second, **about)
        expect(page.locator(".cl-heading").first).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text(HOSTILE).first).to_be_visible(timeout=PATIENCE)
        assert page.evaluate("window.harmed") is None
        assert page.locator("img[src=x], a[href^=javascript], svg[onload], .katex").count() == 0
        assert (
            page.locator("strong:text-is('b'), code:text-is('d'), span:text-is('e')").count() == 0
        )


@pytest.mark.parametrize("name", ["month", "trust", "account"])
def test_a_page_fits_a_narrow_screen(served: Served, page: Page, name: str) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    served.open(page, name, release=served.first, id=WORKSPACE)
    expect(page.locator(".cl-table").first).to_be_visible(timeout=PATIENCE)
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
    sample_run: SampleRun, page: Page, tmp_path: Path
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
                page.context.clear_cookies()
                page.goto(f"http://localhost:{port}/percent-off?currency=EUR&month=2025-03")
                page.get_by_role("button", name="Log in").click(timeout=PATIENCE)
                page.locator("input[name=sub]").fill(name, timeout=PATIENCE)
                page.get_by_role("button", name="Authorize").click()
                told = page.get_by_text(f"Logged in as {emails[name]}")
                expect(told).to_be_visible(timeout=PATIENCE)
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
    failed = served.ask("select file_name, name, observed from release.delivery_checks")
    assert failed
    for cells in failed:
        assert "".join(f'<td class="text">{cell}</td>' for cell in cells[:2]) in text
        assert html.escape(str(cells[2])) in text
    assert "<script" not in text
    assert "user_id" not in text
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(target.as_uri())
    assert asked == [target.as_uri()]
    assert page.evaluate("window.harmed") is None
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_release_has_its_report_from_the_start(served: Served) -> None:
    kept = (releases_dir(served.home) / served.first / REPORT_NAME).read_text("utf-8")
    assert f"Release {served.first}" in kept
    assert "<script" not in kept and "user_id" not in kept
    assert kept.count('class="page-title"') == 4 * 5 + 1  # currencies, pages, deliveries


def test_a_close_keeps_a_report_and_a_workbook_and_stands_on_page_trust(
    served: Served, page: Page
) -> None:
    closed = coupon_ledger(
        *("close", "2025-11", "--by", "Ada", "--home", served.home, "--release", served.first),
        *("--with-open-findings", "--reason", "<b>a trial</b>"),
    )
    assert closed.returncode == 0, closed.stderr
    (pack,) = (releases_dir(served.home) / served.first).glob("close-2025-11-*")
    assert f"Close pack: {pack}" in closed.stdout
    [(net,)] = served.ask(
        "select sum(net_amount) from marts.fct_discounted_charges"
        " where currency = 'USD' and billing_month = date '2025-11-01'"
    )
    assert f"{net:,.2f} USD" in (pack / REPORT_NAME).read_text("utf-8")
    (workbook,) = pack.glob("*.xlsx")
    sheets = openpyxl.load_workbook(workbook, read_only=True)
    [(bills,)] = served.ask(
        "select count(*) from marts.fct_discounted_charges where billing_month = date '2025-11-01'"
    )
    assert sheets["fct_discounted_charges"].max_row == int(str(bills)) + 1
    assert json.loads((pack / "fingerprints.json").read_text("utf-8"))["left_out"] == {}
    served.open(page, "trust", release=served.first)
    row = table(page, "closes").locator("tbody tr").first
    expect(row).to_contain_text("<b>a trial</b>", timeout=PATIENCE)
    expect(row.get_by_role("link", name="2025-11")).to_be_visible()


def test_a_month_that_is_not_there_makes_no_report(served: Served, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    result = coupon_ledger("report", "--home", served.home, "--month", "1999-01", "--out", target)
    assert result.returncode == 2
    assert "There is no month '1999-01'" in result.stderr
    assert not target.exists()
