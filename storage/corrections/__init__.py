"""Labels that people corrected in other programs: files of COCO, CVAT and Label Studio.

May import `annotations`, `decisions` and what lies below them. Front door: `reading`.
"""
