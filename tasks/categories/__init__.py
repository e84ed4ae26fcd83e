"""Categories: prompts and text embeddings, probabilities, matching with a data set's classes.

May import no other room.
"""
