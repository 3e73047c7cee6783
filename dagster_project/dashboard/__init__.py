"""Web pages of the answers that the command line gives.

The layout of pages belongs here; their facts come from `answers`, so page and terminal agree.
"""
