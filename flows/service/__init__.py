"""The service: the flows as Prefect deployments, a server's notice, Prefect's plugin.

May import the flows and `prefect_server`.
"""
