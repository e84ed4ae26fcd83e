"""The artifact store: content-addressed outputs of stages, their keys, manifests, leases and pins.

May import `files` and what lies below it. Front door: `store.ArtifactStore`.
"""
