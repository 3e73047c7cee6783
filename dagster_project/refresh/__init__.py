"""What a refresh needs between arrival and release.

Here belong the dbt build and its engines, what a build may carry on from, whether there is anything to
do, and the files that say what was accepted. What people see of a refresh belongs to the command line.
"""
