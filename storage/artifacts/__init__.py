"""The artifact store: content-addressed outputs of stages, with keys, manifests, leases and pins.

May import `files` and the rooms below it. Front door: `store.ArtifactStore`.
"""
