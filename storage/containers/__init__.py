"""Files that hold many images or rows: zips, Arrow and Parquet files, tables in text.

May import `images`, `files` and the rooms below them. What a container holds becomes part of a
corpus in `corpora`. Front door: `places`, and `members`.
"""
