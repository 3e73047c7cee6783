"""The command `python -m tests.bench`: which measurement, with which options."""

from __future__ import annotations

import argparse

from tests.bench import against, compare, question, readme, refresh, shuffle, small_files


def main() -> None:
    """Run the measurement asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, module, text in (
        ("compare", compare, "the same results by other programs"),
        ("refresh", refresh, "a whole refresh beside a floor, and the days after"),
        ("against", against, "this version beside an earlier commit"),
        ("question", question, "a what-if beside a refresh"),
        ("shuffle", shuffle, "what Spark moves between tasks"),
        ("small-files", small_files, "files of one row, beside another checkout"),
        ("readme", readme, "the newest results into the pages that tell them, with the chart"),
    ):
        command = commands.add_parser(name, help=text, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    options = parser.parse_args()
    options.main(options)


if __name__ == "__main__":
    main()
