"""How good labels are: measurements of their regions, an estimator without human labels, choices.

May import `indexing`, `categories`, `stage`, `workers`. Front doors: the stages `embed_regions`,
`score_labels`, `choose_labels`.
"""
