"""Servers on loopback ports, and the database that Prefect's starts from."""
