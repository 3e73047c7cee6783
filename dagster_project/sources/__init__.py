"""Fetches from a billing system and writes deliveries into the landing folder.

Here belongs what knows another system's shapes: Stripe's objects, a database's tables. Everything
ends in files of the supplier's contract, and nothing here knows what becomes of the files.
"""
