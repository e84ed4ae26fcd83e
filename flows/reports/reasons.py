"""Why images and labels are left out, in words."""

from __future__ import annotations

from typing import Final

from flows.summaries.build import explain

_REASONS: Final = {
    # Between the corpus and the index
    "copies": "the same bytes as another image",
    "not_retrieved": "not among the first images of any category",
    # In retrieval
    "more_probable_elsewhere": "another category is more probable, and has the image",
    "taken_by_later_category": "a later category of the vocabulary has the image",
    "negative_score": "the cosine with the category is below 0",
    "min_score": "the cosine is below --min-score",
    "min_probability": "the category's probability is below --min-probability",
    "min_margin": "the lead over the next category is below --min-margin",
    "nearer_to_not": "nearer to what the vocabulary's `not` excludes than to the category",
    "beyond_evidence": "beyond the images that are estimated to show the category",
    "thin_category": "too few images are estimated to show the category",
    # Of labels
    "leak": "the image is, or nearly is, in a set that is kept out",
    "below_min_quality": "the label's quality is below --min-quality",
    "near_duplicate": "another image of the category shows nearly the same",
    "below_kept_share": "not among the best of its category, of which --keep keeps a share",
    # Of objects
    "no_category": "no category's name fits the object clearly",
    "no_label": "no label of the image is kept",
    "no_mask": "no mask of the image is known",
}


def in_words(reason: str) -> str:
    """What a reason means; empty for one that is not known."""
    return explain(reason) or _REASONS.get(reason, "")
