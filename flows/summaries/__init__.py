"""Summaries of builds and trainings, for the terminal and the UI alike.

May import `pipelines`, `execution`.
"""
