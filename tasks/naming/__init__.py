"""Names of the objects in images: CLIP says which category each shows, or none.

May import `quality`, `retrieval`, `categories`, `stage`. Front door: the stage `name_objects`.
"""
