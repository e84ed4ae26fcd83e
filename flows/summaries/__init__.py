"""What a build or a training came to, for the terminal and the UI alike.

May import `pipelines`, `execution`.
"""
