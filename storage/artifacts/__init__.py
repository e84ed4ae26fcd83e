"""The artifact store: content-addressed outputs of stages, with keys, manifests, leases and pins.

May import `files` and what lies below it. Front door: `store.ArtifactStore`.
"""
