"""The parts of README.md and docs/ that are generated, and the command that writes them.

`python -m tests.documents` (or `make documents`) writes the tables made from YAML and settings, and the
output of every command and query that a page shows. A test compares the pages with what it would write.
"""
