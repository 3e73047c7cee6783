"""Fetching from a billing system and writing deliveries into the landing folder.

Code that knows another system's shapes belongs here: Stripe's objects, a database's tables. Everything
ends in files of the supplier's contract, and nothing here knows what becomes of the files.
"""
