"""Categories as models take them: texts and their embeddings, probabilities, matching by name.

May import no other room.
"""
