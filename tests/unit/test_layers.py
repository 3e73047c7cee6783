"""Which package imports which: a package knows only those below it, imports inside functions too; SQL stays in answers."""

import ast
from pathlib import Path

import pytest

import dagster_project

ROOT = Path(dagster_project.__file__).parent
ANYTHING = frozenset({"*"})

MAY_IMPORT: dict[str, frozenset[str]] = {
    "cli": ANYTHING,
    "definitions": frozenset({"defs", "refresh", "settings"}),
    "defs": frozenset(
        [
            "alerts",
            "answers",
            "arrival",
            "dashboard",
            "databases",
            "failures",
            "feeds",
            "home",
            "product",
            "quoting",
            "refresh",
            "releases",
            "run_launcher",
            "settings",
            "sources",
        ]
    ),
    "alerts": frozenset(
        ["answers", "arrival", "failures", "home", "quoting", "releases", "settings", "sources"]
    ),
    "refresh": frozenset(
        [
            "arrival",
            "databases",
            "digests",
            "expectations",
            "feeds",
            "home",
            "product",
            "quoting",
            "releases",
            "settings",
        ]
    ),
    "dashboard": frozenset({"answers", "releases", "settings", "web"}),
    "answers": frozenset({"product", "quoting", "releases", "settings"}),
    "arrival": frozenset(
        {"databases", "digests", "expectations", "feeds", "home", "product", "quoting"}
    ),
    "sources": frozenset({"feeds", "home", "settings"}),
    "failures": frozenset({"feeds", "releases"}),
    "run_launcher": frozenset({"home", "settings"}),
    "web": frozenset({"settings"}),
    "settings": frozenset({"feeds", "product"}),
    "expectations": frozenset({"feeds"}),
    "releases": frozenset({"databases", "digests", "home", "product", "quoting"}),
    "databases": frozenset(),
    "digests": frozenset(),
    "quoting": frozenset(),
    "home": frozenset(),
    "sample": frozenset(),
    "feeds": frozenset({"product"}),
    "product": frozenset(),
}
"""What each package may import, from top to bottom; only `cli` names packages above its line."""


def package_of(module: str) -> str | None:
    """The package a module belongs to, None if it is not part of this project."""
    first, _, rest = module.partition(".")
    if first == "expectations":
        return first
    return rest.partition(".")[0] or None if first == "dagster_project" else None


def package_at(path: Path) -> str:
    """The package that a file is in."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return parts[0] if parts[0] == "expectations" else parts[1]


def imported_by(path: Path) -> set[str]:
    """The packages of this project that a file imports, wherever in the file."""
    found: set[str | None] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {package_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "dagster_project":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relative to itself: name the package"
            found.add(package_of(node.module or ""))
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            found |= {
                package_of(value.value)
                for value in node.args
                if isinstance(value, ast.Constant) and isinstance(value.value, str)
            }
    return {name for name in found if name}


def called(call: ast.Call) -> str:
    """The last name of the function that is called: `execute` in `connection.execute(…)`."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def questions_in(path: Path) -> set[str]:
    """What a file calls or imports in order to query a release in SQL."""
    asking: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            asking |= {called(node)} & {"execute", "executemany", "sql"}
            if isinstance(node.func, ast.Attribute) and node.func.attr == "rows":
                asking.add("rows")
        elif isinstance(node, ast.ImportFrom) and node.module == "dagster_project.answers.asking":
            asking |= {alias.name for alias in node.names} & {"rows"}
    return asking


def digests_in(path: Path) -> set[str]:
    """What a file calls to digest a whole file by itself."""
    return {
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and (
            called(node) == "file_digest"
            or (
                called(node) == "sha256"
                and any(
                    isinstance(one, ast.Call) and called(one) == "read_bytes" for one in node.args
                )
            )
        )
    }


def breaches(package: str, imported: set[str]) -> set[str]:
    """What a package imports although it may not."""
    allowed = MAY_IMPORT[package]
    return set() if allowed == ANYTHING else imported - allowed - {package}


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
FILES += sorted((ROOT.parent / "expectations").rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT.parent).as_posix())
def test_a_package_imports_only_packages_below_it(path: Path) -> None:
    package = package_at(path)
    assert package in MAY_IMPORT, f"say in this test what {package} may import"
    assert breaches(package, imported_by(path)) == set()


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.relative_to(ROOT.parent).parts[1] in ("cli", "dashboard")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_terminal_and_pages_lay_out_answers_and_ask_nothing_themselves(path: Path) -> None:
    assert questions_in(path) == set()


def test_a_question_outside_the_answers_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "asks.py"
    file.write_text(
        "def f(connection):\n"
        "    from dagster_project.answers.asking import rows\n"
        "    return rows(connection, 'select 1') + connection.execute('select 2').fetchall()\n",
        "utf-8",
    )
    assert questions_in(file) == {"rows", "execute"}


def test_one_function_digests_a_file() -> None:
    assert {path.relative_to(ROOT.parent).as_posix() for path in FILES if digests_in(path)} == {
        "dagster_project/digests.py"
    }


def test_the_table_has_no_cycle() -> None:
    above: set[str] = set()
    for package, below in MAY_IMPORT.items():
        assert not below & above, f"{package} imports what stands above it"
        above.add(package)


def test_every_import_in_the_table_is_made() -> None:
    made: dict[str, set[str]] = {}
    for path in FILES:
        made.setdefault(package_at(path), set()).update(imported_by(path))
    for package, allowed in MAY_IMPORT.items():
        assert allowed == ANYTHING or allowed <= made[package], f"{package} imports less now"


def test_an_import_inside_a_function_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "late.py"
    file.write_text("def f():\n    from dagster_project.cli import app\n", "utf-8")
    assert breaches("releases", imported_by(file)) == {"cli"}
    file.write_text(
        "import importlib\nimportlib.import_module('dagster_project.cli.app')\n", "utf-8"
    )
    assert breaches("releases", imported_by(file)) == {"cli"}
