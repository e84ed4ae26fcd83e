"""Care of the artifact store: finding artifacts, repair, garbage collection.

May import `execution` (stages by name), `settings`.
"""
