"""Dagster's web server in a real browser: our own pages work, those of other sites can do nothing.

The other site is a web server on another port of this machine. It is opened under three names: two of
them are also names of ours, which makes it "the same site" for the browser, and one is its own.
"""

from __future__ import annotations

import http.server
import json
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from playwright.sync_api import Page, Response

from tests.pipeline.live import MODULE, REPOSITORY, Service
from tests.receivers import free_port

SCHEDULE = "daily_refresh"
OTHER_NAME = "other.test"
TURNED_ON = (
    "mutation On($selector: ScheduleSelector!)"
    " { startSchedule(scheduleSelector: $selector) { __typename } }"
)
SELECTOR = {**REPOSITORY, "scheduleName": SCHEDULE}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The web server alone: what is launched waits for a daemon that never comes."""
    with Service(tmp_path_factory.mktemp("web") / "service") as started:
        started.start("web")

        def is_ready() -> bool:
            try:
                answer = started.ask(
                    '{ repositoryOrError(repositorySelector: {repositoryName: "__repository__",'
                    f' repositoryLocationName: "{MODULE}"}}) {{ __typename }} }}'
                )
            except OSError:
                return False
            return bool(answer["repositoryOrError"]["__typename"] == "Repository")

        started.wait_for("the web server is ready", is_ready, 180)
        yield started


@pytest.fixture(scope="module")
def other_port() -> Iterator[int]:
    """Another site: one empty page."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>another site</title><body></body>")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser_arguments() -> Sequence[str]:
    """Another site's name leads to this machine, as after DNS rebinding."""
    return (f"--host-resolver-rules=MAP {OTHER_NAME} 127.0.0.1",)


def is_on(service: Service) -> bool:
    """Whether the schedule that the other site's page tries to turn on is on."""
    answer = service.ask(
        "query State($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector)"
        " { ... on Schedule { scheduleState { status } } } }",
        selector=SELECTOR,
    )
    return bool(answer["scheduleOrError"]["scheduleState"]["status"] == "RUNNING")


def reported(service: Service) -> list[str]:
    """The assets that somebody reported to have been made, without a run."""
    answer = service.ask("{ assetsOrError { ... on AssetConnection { nodes { key { path } } } } }")
    paths = ["/".join(node["key"]["path"]) for node in answer["assetsOrError"]["nodes"]]
    return [path for path in paths if path.startswith("reported_by_")]


def turn_off(service: Service) -> None:
    service.ask(
        "mutation Off($id: String!) { stopRunningSchedule(id: $id) { __typename } }",
        id=service.ask(
            "query Id($selector: ScheduleSelector!) { scheduleOrError(scheduleSelector: $selector)"
            " { ... on Schedule { scheduleState { id } } } }",
            selector=SELECTOR,
        )["scheduleOrError"]["scheduleState"]["id"],
    )


# Everything a page can send to another address. Each gives what the page could read, or nothing.
ATTEMPTS = """
async ({address, query, variables}) => {
  const body = JSON.stringify({query, variables});
  const asked = new URLSearchParams({query, variables: JSON.stringify(variables)});
  const got = {};
  const sent = async (name, path, options) => {
    try {
      const response = await fetch(address + path, options);
      got[name] = response.type === "opaque" ? "" : await response.text();
    } catch (error) { got[name] = ""; }
  };
  await sent("read", "/server_info", {});
  await sent("query", "/graphql", {method: "POST", body: JSON.stringify({query: "{version}"}),
    headers: {"Content-Type": "application/json"}});
  await sent("json", "/graphql", {method: "POST", body,
    headers: {"Content-Type": "application/json"}});
  await sent("get", "/graphql?" + asked, {mode: "no-cors"});
  await sent("text", "/graphql?" + asked, {method: "POST", mode: "no-cors", body});
  await sent("disguised", "/graphql", {method: "POST", mode: "no-cors", body,
    headers: {"Content-Type": "text/plain; application/json"}});
  const form_data = new FormData();
  form_data.set("query", query);
  await sent("multipart", "/graphql?" + asked, {method: "POST", mode: "no-cors", body: form_data});
  await sent("report", "/report_asset_materialization/reported_by_fetch",
    {method: "POST", mode: "no-cors", body: "{}"});
  for (const enctype of
      ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]) {
    for (const path of ["/graphql?" + asked, "/report_asset_materialization/reported_by_form"]) {
      const frame = document.createElement("iframe");
      frame.name = "f" + Math.random();
      const form = document.createElement("form");
      Object.assign(form, {action: address + path, method: "POST", enctype, target: frame.name});
      const field = document.createElement("input");
      Object.assign(field, {name: "query", value: query});
      form.append(field);
      document.body.append(frame, form);
      const loaded = new Promise(resolve => { frame.onload = resolve; });
      form.submit();
      await loaded;
    }
  }
  got.socket = await new Promise(resolve => {
    const socket = new WebSocket(address.replace("http", "ws") + "/graphql", "graphql-ws");
    socket.onopen = () => resolve("opened");
    socket.onclose = () => resolve("");
  });
  return got;
}
"""


def attempts(page: Page, service: Service, name: str) -> dict[str, Any]:
    """What a page gets if it tries everything to act and to read.

    Args:
        page: The page, on whatever site it is.
        service: The web server it turns to.
        name: The name under which it reaches the web server.
    """
    arguments = {
        "address": f"http://{name}:{service.port}",
        "query": TURNED_ON,
        "variables": {"selector": SELECTOR},
    }
    found: dict[str, Any] = page.evaluate(ATTEMPTS, arguments)
    return found


@pytest.mark.parametrize("site", ["localhost", "127.0.0.1", OTHER_NAME])
@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", OTHER_NAME])
def test_a_page_of_another_site_can_neither_act_nor_read(
    page: Page, service: Service, other_port: int, site: str, name: str
) -> None:
    page.goto(f"http://{site}:{other_port}/")
    found = attempts(page, service, name)
    assert len(found) == 9
    assert not any(found.values()), found
    assert not is_on(service)
    assert reported(service) == []


def test_a_name_of_another_site_that_leads_here_shows_nothing(page: Page, service: Service) -> None:
    response = page.goto(f"http://{OTHER_NAME}:{service.port}/server_info")
    assert response is not None
    assert response.status == 400
    found = attempts(page, service, OTHER_NAME)  # of the same origin, for the browser
    assert all(
        "This server does not answer to this address" in found[name] for name in ("read", "query")
    )
    assert found["socket"] == ""
    assert not is_on(service)
    assert reported(service) == []


def test_another_site_cannot_put_our_pages_into_its_own(
    page: Page, service: Service, other_port: int
) -> None:
    page.goto(f"http://localhost:{other_port}/")
    page.evaluate(
        "address => new Promise(resolve => { const frame = document.createElement('iframe');"
        " frame.onload = resolve; frame.src = address; document.body.append(frame); })",
        f"http://localhost:{service.port}/",
    )
    (_, frame) = page.frames
    assert "dagster" not in frame.content().lower()


def test_our_own_page_may_do_what_the_other_site_tried(page: Page, service: Service) -> None:
    """The attempts above fail because of their origin, not because of their form."""
    page.goto(f"http://localhost:{service.port}/server_info")
    found = attempts(page, service, "localhost")
    assert "dagster_version" in found["read"]
    assert "version" in json.loads(found["query"])["data"]
    assert "ScheduleStateResult" in found["json"]
    assert found["socket"] == "opened"
    assert is_on(service)
    assert reported(service) == [], "a form of our own page cannot act either"
    turn_off(service)


def test_nothing_acts_over_a_websocket(page: Page, service: Service) -> None:
    page.goto(f"http://localhost:{service.port}/server_info")
    answered = page.evaluate(
        """([address, query, variables]) => new Promise(resolve => {
          const socket = new WebSocket(address, "graphql-ws");
          socket.onopen = () => {
            socket.send(JSON.stringify({type: "connection_init"}));
            socket.send(JSON.stringify({id: "1", type: "start", payload: {query, variables}}));
          };
          socket.onmessage = message => {
            const answer = JSON.parse(message.data);
            if (answer.type !== "connection_ack") resolve(answer.type);
          };
          socket.onclose = () => resolve("closed");
        })""",
        [f"ws://localhost:{service.port}/graphql", TURNED_ON, {"selector": SELECTOR}],
    )
    assert answered in ("error", "closed")
    assert not is_on(service)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_our_own_buttons_work(page: Page, service: Service, name: str) -> None:
    before = len(service.runs())
    complaints: list[str] = []

    def heard(response: Response) -> None:
        if not response.ok:
            complaints.append(f"{response.status} {response.url}")

    page.on("response", heard)
    page.goto(f"http://{name}:{service.port}/automation")
    row = page.get_by_text(SCHEDULE, exact=True)
    row.wait_for(timeout=60_000)
    with page.expect_websocket(timeout=60_000):
        page.goto(f"http://{name}:{service.port}/asset-groups")
    page.get_by_text(re.compile("^Materialize all")).click(timeout=60_000)
    service.wait_for("the run was launched", lambda: len(service.runs()) == before + 1, 60)
    assert complaints == []
