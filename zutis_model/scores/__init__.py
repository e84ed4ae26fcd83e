"""How well predictions agree with annotations: IoU, COCO's average precision, ImageNet-S's scores.

May import nothing of ours.
"""
