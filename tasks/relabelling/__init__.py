"""The second round: a trained network looks at its own training labels again.

The front door is the stage `relabel_shard`. May import `packing` (sentences), `prediction`,
`stage`.
"""
