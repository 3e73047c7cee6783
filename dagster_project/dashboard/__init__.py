"""Web pages of the answers that the command line gives.

Here belongs the layout of pages; their facts come from `answers`, so that page and terminal agree.
"""
