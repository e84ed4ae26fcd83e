"""Evaluation scores: IoU, COCO's average precision, ImageNet-S's scores.

May import nothing of ours.
"""
