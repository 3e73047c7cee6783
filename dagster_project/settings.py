"""Every setting of the product, once: where things lie, which day, how much of the machine.

Here belong settings and what follows from them: paths and the default day. Opening databases and
reading deliveries do not.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

CHECKOUT = Path(__file__).resolve().parents[1]
SAMPLE = CHECKOUT / "data" / "sample"
SAMPLE_LANDING = SAMPLE / "landing"
DBT_PROJECT = CHECKOUT / "dbt"


class Settings(BaseSettings):
    """Settings, each from an argument, else `COUPON_LEDGER_<NAME>` in the environment, else a default.

    Attributes:
        home: The data home: archive, warehouse, releases, logs.
        landing: The folder the billing system drops its files in; only ever read.
        as_of: Last day whose events count (R0); None leaves it to the caller.
        threads: Threads of DuckDB and dbt.
        memory_limit: DuckDB's memory limit, such as `4GB`; beyond it work spills to disk.
        schedule_cron: When the daily refresh ticks.
        schedule_timezone: In which zone, as an IANA name.
        accepted_findings: The reviewed file of accepted findings; `accepted_findings.csv` in the
            data home unless given.
        strict: Whether open findings of severity error stop publication.
        settle_seconds: How long a delivered file must have kept its size before a sensor takes it.
    """

    model_config = SettingsConfigDict(env_prefix="COUPON_LEDGER_", extra="ignore", frozen=True)

    home: Path = CHECKOUT / "data" / "home"
    landing: Path = SAMPLE_LANDING
    as_of: date | None = None
    threads: int = Field(default=2, ge=1, le=256)
    memory_limit: str = Field(
        default="4GB", pattern=r"^[0-9]+(\.[0-9]+)?(KB|MB|GB|TB|KiB|MiB|GiB|TiB)$"
    )
    schedule_cron: str = "0 5 * * *"
    schedule_timezone: str = "UTC"
    settle_seconds: int = Field(default=60, ge=0)
    accepted_findings: Path | None = None
    strict: bool = False

    @field_validator("home", "landing")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        home, landing = self.home.resolve(), self.landing.resolve()
        if home == landing or home.is_relative_to(landing):
            raise ValueError(
                f"the data home {self.home} lies in the landing folder {self.landing}, which is"
                " only read: choose another home"
            )
        return self

    @property
    def archive(self) -> Path:
        """Every delivery ever accepted, under its sha256."""
        return self.home / "archive"

    @property
    def build(self) -> Path:
        """What the one writer works in; can be deleted, the next run makes it again."""
        return self.home / "build"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file the refresh writes and nobody else opens."""
        return self.build / "warehouse.duckdb"

    @property
    def scratch(self) -> Path:
        """Where DuckDB spills."""
        return self.build / "tmp"

    @property
    def accepted_findings_file(self) -> Path:
        """The reviewed file of accepted findings; it need not exist."""
        return self.accepted_findings or self.home / "accepted_findings.csv"

    @property
    def releases_dir(self) -> Path:
        """The kept releases."""
        return self.home / "releases"

    @property
    def current(self) -> Path:
        """The symlink readers open."""
        return self.home / "current"

    @property
    def logs(self) -> Path:
        """One log file per run."""
        return self.home / "logs"

    @property
    def uses_sample(self) -> bool:
        """Whether the landing folder is the committed sample."""
        return self.landing.resolve() == SAMPLE_LANDING.resolve()

    def dbt_environment(self) -> dict[str, str]:
        """The variables dbt's profile reads."""
        return {
            "COUPON_LEDGER_WAREHOUSE": str(self.warehouse),
            "COUPON_LEDGER_THREADS": str(self.threads),
            "COUPON_LEDGER_MEMORY_LIMIT": self.memory_limit,
        }


def default_as_of(settings: Settings, today: date) -> date:
    """The as-of date when nobody gives one: the sample's last day for the sample, else today.

    Args:
        settings: Its `as_of` comes first.
        today: The current day in UTC.

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
