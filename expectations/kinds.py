"""The kinds of expectations that the suites consist of, quick to check.

The library asks an expectation for its configuration a hundred times during one validation, and builds
it each time: for a small file that is most of the gate's cost. Nothing changes an expectation while it
is validated, so these store theirs.
"""

from __future__ import annotations

from great_expectations.compatibility.pydantic import PrivateAttr
from great_expectations.expectations.core.expect_column_values_to_be_between import (
    ExpectColumnValuesToBeBetween,
)
from great_expectations.expectations.core.expect_column_values_to_be_in_set import (
    ExpectColumnValuesToBeInSet,
)
from great_expectations.expectations.core.expect_column_values_to_match_regex import (
    ExpectColumnValuesToMatchRegex,
)
from great_expectations.expectations.core.expect_column_values_to_not_be_null import (
    ExpectColumnValuesToNotBeNull,
)
from great_expectations.expectations.core.expect_column_values_to_not_match_regex import (
    ExpectColumnValuesToNotMatchRegex,
)
from great_expectations.expectations.core.expect_table_columns_to_match_set import (
    ExpectTableColumnsToMatchSet,
)
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration


class _Kept(Expectation):
    _configuration: ExpectationConfiguration | None = PrivateAttr(None)

    @property
    def configuration(self) -> ExpectationConfiguration:
        """What the library validates; built once."""
        if self._configuration is None:
            self._configuration = super().configuration
        return self._configuration


class AllBetween(_Kept, ExpectColumnValuesToBeBetween):
    """Every value of a column is between two numbers."""


class AllInSet(_Kept, ExpectColumnValuesToBeInSet):
    """Every value of a column is one of a few."""


class AllMatch(_Kept, ExpectColumnValuesToMatchRegex):
    """Every text of a column matches a pattern."""


class NoneMatch(_Kept, ExpectColumnValuesToNotMatchRegex):
    """No text of a column matches a pattern."""


class AllGiven(_Kept, ExpectColumnValuesToNotBeNull):
    """No value of a column is missing."""


class ColumnsPresent(_Kept, ExpectTableColumnsToMatchSet):
    """A frame has these columns."""
