"""Every setting of the product, once: where things are stored, which day, how much of the machine.

Settings and what follows from them, paths and the default day, belong here. Opening databases and
reading deliveries do not.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from calendar import monthrange
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from dagster_project.product import CODE, IS_INSTALLED, SAMPLE

CHECKOUT = CODE
"""The checkout, in which tests and benchmarks run."""
SAMPLE_LANDING = SAMPLE / "landing"
_SIZE = r"[0-9]+(\.[0-9]+)?(KB|MB|GB|TB|KiB|MiB|GiB|TiB)"
_AS_JSON = {
    "holidays": '["2026-12-25"]',
    "owners": '{"marts": "team:finance"}',
    "late_after_days": '{"invoices": 40}',
    "web_addresses": '["https://ledger.example.com"]',
    "spark_conf": '{"spark.executor.memory": "4g"}',
    "pull_from": '["stripe"]',
}
"""The settings that are lists or mappings, each with an example of its text."""
OWNERS = {
    "deliveries": "team:billing",
    "raw": "team:data",
    "staging": "team:data",
    "intermediate": "team:data",
    "marts": "team:finance",
    "release": "team:data",
}
"""The default owners of the assets of each group."""
FIRST_AS_OF, LAST_AS_OF = date(1970, 1, 1), date(9990, 12, 31)
"""The as-of dates that can be calculated: the outlook is 24 months, and dates end with 9999."""
DEFAULT_PORTS = {"http": 80, "https": 443}
"""The port of a web address that names none, by scheme."""


def default_home() -> Path:
    """Return the data home used if no setting names one.

    Returns:
        `data/home` in a checkout; for an installed package `coupon-ledger` in the user's folder for
        data, `$XDG_DATA_HOME` or else `~/.local/share`.
    """
    if not IS_INSTALLED:
        return CODE / "data" / "home"
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not base.is_absolute():  # the XDG specification says to ignore it
        base = Path("~/.local/share").expanduser()
    return base / "coupon-ledger"


class Settings(BaseSettings):
    """Settings, each from an argument, else `COUPON_LEDGER_<NAME>` in the environment, else a default.

    Attributes:
        home: The data home: archive, warehouse, releases, logs.
        landing: The folder the billing system drops its files in; it is only read.
        as_of: Last day whose events count (R0); unless given, the sample's last day for the sample,
            else today in the reporting time zone.
        reporting_time_zone: Where days and months begin in what is calculated (R0), as an IANA name. Offsets of
            seconds, as Liberia's until 1972, are not supported: its days begin 30 seconds late.
        threads: Threads of DuckDB and dbt, and of Spark where it runs on this machine.
        memory_limit: DuckDB's memory limit, such as `4GB`; beyond it work spills to disk.
        schedule_cron: When the daily refresh ticks.
        schedule_timezone: The time zone of the schedules, as an IANA name such as Europe/Berlin.
        autostart: Whether Dagster's schedule and sensor of refreshes run without being turned on.
        sensor_seconds: How often Dagster's sensors look, in seconds.
        fresh_within_hours: After how many hours without a new build a mart counts as stale.
        close_working_day: The working day of a month from which the month-close reminder is sent;
            0 for never.
        close_cron: When the reminder looks for a month to close, in the time zone of the schedules.
        holidays: Days from Monday to Friday on which nobody works, as a JSON list.
        owners: The owners of the assets of a group in Dagster, as `team:NAME` or an e-mail address, by
            group; a group that is not named has its default.
        log_format: How run logs are written: `text`, or `json` with one object a line.
        accepted_findings: The reviewed file of accepted findings; `accepted_findings.csv` in the
            data home unless given.
        strict: Whether open findings of severity error stop publication.
        settle_seconds: How long a delivered file must have had the same size before the sensor takes it.
        reports: Whether each release gets its report, `report.html`, beside its Parquet files.
        engine: What runs the models: `duckdb`, or `spark`, which needs the extra of that name.
        query_seconds: After how long `query` stops; 0 for never.
        query_rows: After how many rows `query` stops; 0 for never.
        query_memory: How much memory DuckDB may use for `query`; `memory_limit` unless given.
        spark_master: Spark's master, such as `spark://host:7077`; this machine unless given.
        spark_conf: Further configuration of Spark, as a JSON object of strings.
        spark_storage: Where Spark's tables are stored: a folder that the driver and every executor reach
            under the same path, or the address of one in object storage; below the data home unless
            given.
        spark_thrift: `host:port` of a running Spark Thrift server to use instead of a session.
        spark_user: The user of the Thrift server.
        alert_webhook_url: Where alerts are posted as Slack-compatible JSON; a secret.
        alert_smtp_host: The mail server alerts are sent through.
        alert_smtp_port: The port of the mail server; 465 is encrypted from the start, others by
            STARTTLS where it is offered.
        alert_smtp_user: The user to log in to the mail server as; the sender unless given.
        alert_smtp_password: The password of that user; without one there is no log-in. A secret.
        alert_email_from: The address that alerts are sent from.
        alert_email_to: The addresses that alerts are sent to, separated by commas.
        alert_timeout_seconds: How long a channel may take to answer.
        alert_repeat_hours: After how many hours an alert that goes on is sent again.
        alert_ahead_days: How many days ahead alerts report promotions that run out; 0 for never.
        alert_quiet_minutes: How many minutes after an alert further refused files, findings, changed terms or
            promotions that run out wait, to be reported together.
        feed_time_zone: The time zone of instants that come without an offset, as an IANA name for all
            feeds, or as a JSON object by feed; UTC where none is named.
        late_after_days: By feed, how many days old its newest record may be; a feed that is not
            named is not watched, and budgets, which are for months to come, cannot be.
        disk_free_gb: Least free space of the data home's disk, in gigabytes (10^9 bytes).
        disk_free_percent: Least free space of the data home's disk, in percent.
        web_addresses: Addresses under which Dagster's pages and the dashboard are opened besides those of
            this machine, such as a proxy's, as a JSON list: `["https://ledger.example.com"]`.
        login_file: The TOML file that configures the dashboard's log-in by OpenID Connect; without one
            there is no log-in, and the dashboard is for this machine only.
        pull_from: The billing systems that Dagster pulls from, as a JSON list: `stripe`, `postgres`.
        pull_cron: When Dagster pulls, in the time zone of the schedules.
        pull_within_hours: After how many hours without a successful pull the next one is late.
        pull_keep_days: How many days the raw pages of a pull from Stripe are retained; a page that
            is the last to show some object is retained for good.
        postgres_sources: The file of SELECTs for a pull from Postgres, or the name of one that comes
            with the product; the connection is libpq's, from PGHOST and the like.
        stripe_workspace: What a pull from Stripe takes as a workspace: `customer`, or
            `subscription`.
        stripe_program_key: The metadata key of Stripe's coupons and credit grants that names their
            program.
        stripe_names: Whether a pull from Stripe delivers the names of customers.
        stripe_mtu_price: Id of the metered price whose quantity is the monthly tracked users.
    """

    model_config = SettingsConfigDict(
        env_prefix="COUPON_LEDGER_",
        extra="ignore",
        frozen=True,
        enable_decoding=False,  # text that is not JSON would end every command with a traceback
        hide_input_in_errors=True,  # the input may be a secret
    )

    home: Path = Field(default_factory=default_home)
    landing: Path = SAMPLE_LANDING
    as_of: date | None = None
    reporting_time_zone: str = "UTC"
    threads: int = Field(default=2, ge=1, le=256)
    memory_limit: str = "4GB"
    query_seconds: float = Field(default=300, ge=0)
    query_rows: int = Field(default=100_000, ge=0)
    query_memory: str | None = None
    schedule_cron: str = "0 5 * * *"
    schedule_timezone: str = "UTC"
    autostart: bool = False
    sensor_seconds: int = Field(default=30, ge=1)
    settle_seconds: int = Field(default=60, ge=0)
    fresh_within_hours: float = Field(default=36, gt=0)
    close_working_day: int = Field(default=3, ge=0, le=15)
    close_cron: str = "0 8 * * *"
    holidays: tuple[date, ...] = ()
    owners: Mapping[str, str] = Field(default=OWNERS)
    log_format: Literal["text", "json"] = "text"
    accepted_findings: Path | None = None
    strict: bool = False
    alert_webhook_url: SecretStr | None = None
    alert_smtp_host: str | None = None
    alert_smtp_port: int = Field(default=25, ge=1, le=65535)
    alert_smtp_user: str | None = None
    alert_smtp_password: SecretStr | None = None
    alert_email_from: str | None = None
    alert_email_to: str | None = None
    alert_timeout_seconds: float = Field(default=10, gt=0, le=300)
    alert_repeat_hours: float = Field(default=24, ge=0)
    alert_ahead_days: int = Field(default=0, ge=0, le=365)
    alert_quiet_minutes: float = Field(default=10, ge=0)
    feed_time_zone: str | dict[str, str] = "UTC"
    late_after_days: Mapping[str, int] = Field(default={"invoices": 40, "redemptions": 120})
    disk_free_gb: float = Field(default=5, ge=0)
    disk_free_percent: float = Field(default=5, ge=0, le=100)
    web_addresses: tuple[str, ...] = ()
    login_file: Path | None = None
    reports: bool = True
    engine: Literal["duckdb", "spark"] = "duckdb"
    spark_master: str = ""
    spark_conf: dict[str, str] = Field(default_factory=dict)
    spark_storage: str = ""
    spark_thrift: str = ""
    spark_user: str = "coupon-ledger"
    pull_from: tuple[Literal["stripe", "postgres"], ...] = ()
    pull_cron: str = "0 4 * * *"
    pull_within_hours: float = Field(default=30, gt=0)
    pull_keep_days: int = Field(default=90, ge=0)
    postgres_sources: str = ""
    stripe_workspace: Literal["customer", "subscription"] = "customer"
    stripe_program_key: str = Field(default="program", min_length=1)
    stripe_names: bool = True
    stripe_mtu_price: str = ""

    @field_validator(*_AS_JSON, "feed_time_zone", mode="before")
    @classmethod
    def _decoded(cls, value: object, info: ValidationInfo) -> object:
        """Decode JSON; a time zone may also be given as its bare name."""
        if not isinstance(value, str):
            return value
        if info.field_name == "feed_time_zone" and not value.lstrip().startswith("{"):
            return value
        try:
            return json.loads(value)
        except ValueError:
            example = _AS_JSON.get(str(info.field_name), '{"invoices": "Europe/Berlin"}')
            raise ValueError(f"the text is not JSON: write it like {example}") from None

    @field_validator("memory_limit", "query_memory")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_SIZE, value):
            raise ValueError(f"{value!r} is not a size: write it like 4GB or 512MiB")
        return value

    @field_validator("spark_thrift")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        if value and not re.fullmatch(r"[^:]+:[0-9]{1,5}", value):
            raise ValueError(f"{value!r} is no address: write it as HOST:PORT")
        return value

    @field_validator("home", "landing")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("home")
    @classmethod
    def _nameable(cls, value: Path) -> Path:
        for sign in "?#":
            if sign in str(value):
                raise ValueError(
                    f"{value} has a {sign}, at which DuckDB or dbt end a file's name: choose another"
                    " folder"
                )
        return value

    @field_validator("as_of")
    @classmethod
    def _can_be_calculated(cls, value: date | None) -> date | None:
        return None if value is None else checked_as_of(value)

    @field_validator("owners")
    @classmethod
    def _every_group(cls, value: Mapping[str, str]) -> Mapping[str, str]:
        for group, owner in value.items():
            if group not in OWNERS:
                raise ValueError(f"there is no group {group!r}; name one of {', '.join(OWNERS)}")
            if not owner.startswith("team:") and "@" not in owner:
                raise ValueError(
                    f"{group}: {owner!r} is neither team:NAME nor an e-mail address; give one of them"
                )
        return {**OWNERS, **value}

    @field_validator("reporting_time_zone", "schedule_timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return _known_zone(value)

    @field_validator("feed_time_zone")
    @classmethod
    def _feeds_and_zones(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        from dagster_project.feeds import feeds

        if isinstance(value, str):
            return _known_zone(value)
        for feed, zone in value.items():
            if feed not in feeds():
                raise ValueError(f"there is no feed {feed!r}; name one of {', '.join(feeds())}")
            _known_zone(zone)
        return value

    @field_validator("alert_webhook_url")
    @classmethod
    def _web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("the address must begin with https:// or http://")
        return value

    @field_validator("web_addresses")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(origin_of, value))

    @field_validator("late_after_days")
    @classmethod
    def _feeds_and_days(cls, value: Mapping[str, int]) -> Mapping[str, int]:
        from dagster_project.feeds import feeds

        watchable = [feed for feed in feeds() if feed != "budgets"]
        for feed, days in value.items():
            if feed not in watchable:
                what = f"there is no feed {feed!r}"
                if feed in feeds():
                    what = f"the age of {feed} cannot be watched"
                raise ValueError(f"{what}; name one of {', '.join(watchable)}")
            if days < 0:
                raise ValueError(f"{feed}: {days} days is negative; give 0 or more")
        return value

    @model_validator(mode="after")
    def _mail_is_complete(self) -> Self:
        if self.alert_smtp_host and not (self.alert_email_from and self.alert_email_to):
            raise ValueError("alert_smtp_host is set: set alert_email_from and alert_email_to too")
        return self

    @model_validator(mode="after")
    def _pulls_are_complete(self) -> Self:
        if self.pull_from and self.uses_sample:
            raise ValueError(
                "pull_from is set: set landing too, to a folder that pulls may write into"
            )
        if "postgres" in self.pull_from and not self.postgres_sources:
            raise ValueError("pull_from names postgres: set postgres_sources too")
        return self

    @model_validator(mode="after")
    def _apart(self) -> Self:
        home, landing = self.home.resolve(), self.landing.resolve()
        if home == landing or home.is_relative_to(landing):
            raise ValueError(
                f"the data home {self.home} is inside the landing folder {self.landing}, which is"
                " only read: choose another home"
            )
        return self

    @property
    def feed_time_zones(self) -> dict[str, str]:
        """The time zones of feeds whose instants without an offset are not in UTC."""
        from dagster_project.feeds import feeds

        named = self.feed_time_zone
        if named == "UTC":
            return {}
        by_feed = dict.fromkeys(feeds(), named) if isinstance(named, str) else named
        return {feed: zone for feed, zone in sorted(by_feed.items()) if zone != "UTC"}

    @property
    def archive(self) -> Path:
        """Every delivery ever accepted, under its sha256."""
        return self.home / "archive"

    @property
    def build(self) -> Path:
        """The one writer's working folder; it can be deleted, and the next run makes it again."""
        return self.home / "build"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file the refresh writes and nobody else opens."""
        return self.build / "warehouse.duckdb"

    @property
    def built(self) -> Path:
        """The DuckDB file with what a build has besides the marts: tables, or views of Spark's Parquet."""
        return self.warehouse if self.engine == "duckdb" else self.build / "spark.duckdb"

    @property
    def candidate(self) -> Path:
        """The DuckDB file of the marts, which becomes a release when they have passed their checks."""
        return self.build / "candidate.duckdb"

    @property
    def scratch(self) -> Path:
        """Where DuckDB spills to disk."""
        return self.build / "tmp"

    @property
    def accepted_findings_file(self) -> Path:
        """The reviewed file of accepted findings; it need not exist."""
        return self.accepted_findings or self.home / "accepted_findings.csv"

    @property
    def current(self) -> Path:
        """The symlink readers open."""
        return self.home / "current"

    @property
    def logs(self) -> Path:
        """One log file per run."""
        return self.home / "logs"

    @property
    def dagster_home(self) -> Path:
        """Dagster's storage, unless `DAGSTER_HOME` names another one."""
        return self.home / "dagster"

    @property
    def uses_sample(self) -> bool:
        """Whether the landing folder is the committed sample."""
        return self.landing.resolve() == SAMPLE_LANDING.resolve()

    def dbt_environment(self) -> dict[str, str]:
        """Return the variables dbt's profile reads."""
        spark = {}
        if self.engine == "spark":
            host, _, port = self.spark_thrift.partition(":")
            spark = {
                "COUPON_LEDGER_SPARK_METHOD": "thrift" if host else "session",
                "COUPON_LEDGER_SPARK_HOST": host or "localhost",
                "COUPON_LEDGER_SPARK_PORT": port or "10000",
                "COUPON_LEDGER_SPARK_USER": self.spark_user,
            }
        return {
            **spark,
            "COUPON_LEDGER_WAREHOUSE": str(self.warehouse),
            "COUPON_LEDGER_CANDIDATE": str(self.candidate),
            "COUPON_LEDGER_THREADS": str(self.threads),
            "COUPON_LEDGER_MEMORY_LIMIT": self.memory_limit,
        }


def descriptions() -> dict[str, str]:
    """Return the description of each setting by name, from the docstring of `Settings`."""
    _, _, listed = inspect.cleandoc(Settings.__doc__ or "").partition("Attributes:\n")
    described = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", listed, flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in described}


def origin_of(address: str) -> str:
    """Return the origin of a web address as browsers write it: lower case, without a default port.

    Args:
        address: `http://` or `https://`, a host, and a port where it is not the default one.

    Raises:
        ValueError: The address has another form, or a part that does not belong to an origin.
    """
    form = f"{address!r} is not of the form https://HOST or https://HOST:PORT"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ValueError(form) from error
    has_more = parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or has_more or "*" in parts.netloc:
        raise ValueError(form)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_default = port in (None, DEFAULT_PORTS[parts.scheme])
    return f"{parts.scheme}://{host}" + ("" if is_default else f":{port}")


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine, by name or IP address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def checked_as_of(day: date | str) -> date:
    """Return an as-of date, checked to be one that can be calculated.

    Args:
        day: The day, or its text as YYYY-MM-DD.

    Raises:
        ValueError: The text is not a day, or the day is too early or too late.
    """
    try:
        found = date.fromisoformat(day) if isinstance(day, str) else day
    except ValueError:
        raise ValueError("give a day as YYYY-MM-DD") from None
    if not FIRST_AS_OF <= found <= LAST_AS_OF:
        raise ValueError(
            f"give a day from {FIRST_AS_OF} to {LAST_AS_OF}; the bills of the 24 months after it are"
            " calculated too"
        )
    return found


def reporting_day(settings: Settings, instant: datetime) -> date:
    """Return the day of an instant in the reporting time zone.

    Args:
        settings: Their `reporting_time_zone` says where days begin.
        instant: An instant with its offset.
    """
    return instant.astimezone(ZoneInfo(settings.reporting_time_zone)).date()


def first_instant(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a day in a time zone, or of the next day that exists there (R0).

    Args:
        day: The day; the calendar of a zone can leave it out.
        zone: The time zone.

    Returns:
        The instant in UTC, without a zone.
    """
    midnight = datetime.combine(day, time(), UTC)
    # A day can begin late, or be left out altogether; Kiritimati was at -10:40 until 1979.
    steps = (midnight + timedelta(minutes=5 * number) for number in range(-180, 504))
    first = next(one for one in steps if one.astimezone(zone).date() >= day)
    return first.replace(tzinfo=None)


def _known_zone(name: str) -> str:
    if name == "UTC" or name in available_timezones():
        return name
    near = get_close_matches(name, available_timezones(), n=3)
    raise ValueError(
        f"there is no time zone {name!r}: give an IANA name such as Europe/Berlin"
        + (f"; {' or '.join(near)} comes near" if near else "")
    )


def default_as_of(settings: Settings, today: date) -> date:
    """Return the as-of date when none is given: the sample's last day for the sample, else today.

    Args:
        settings: Their `as_of` takes precedence.
        today: The current day.

    Raises:
        ValueError: The sample's `truth.json` does not say its last day.
    """
    if settings.as_of is not None:
        return settings.as_of
    if not settings.uses_sample:
        return today
    truth = SAMPLE / "truth.json"
    try:
        return date.fromisoformat(json.loads(truth.read_text("utf-8"))["last_day"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{truth} does not say the sample's last day ({error!r}): give --as-of"
        ) from error


def add_months(start: datetime, months: int) -> datetime:
    """Return a later instant, clamped to the end of its month (R0)."""
    place = start.year * 12 + start.month - 1 + months
    year, month_number = divmod(place, 12)
    last = monthrange(year, month_number + 1)[1]
    return start.replace(year=year, month=month_number + 1, day=min(start.day, last))
