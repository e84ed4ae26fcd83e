"""Care of the artifact store: artifacts by what users write for them, repair, garbage.

May import `execution` (stages by name), `settings`.
"""
