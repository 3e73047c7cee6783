"""What a refresh needs between arrival and release.

The dbt build and its engines, what an incremental build starts from, whether there is anything to do,
and the files that say what was accepted belong here. What people see of a refresh belongs to the
command line.
"""
