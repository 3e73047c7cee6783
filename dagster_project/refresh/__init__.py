"""What a refresh needs between arrival and release.

The dbt build and its engines, incremental builds, what-ifs, the check whether there is anything to do,
and the file of accepted findings belong here. What people see of a refresh belongs to the command line.
"""
