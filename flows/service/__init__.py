"""The flows as Prefect deployments, the note of a running server, the plugin of Prefect's command.

May import the flows and `prefect_server`.
"""
