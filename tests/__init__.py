"""Tests, in folders that mirror the packages, and what they share (`tests.support`)."""
