"""Fixtures for every folder of tests."""

from tests.browser import page

__all__ = ["page"]
