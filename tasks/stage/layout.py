"""File names in the stages' artifacts, for stages that write or read them."""

# scan
ENTRIES = "entries.parquet"
# scan and embed_images
REJECTS = "rejects.parquet"
# embed_images
RECORDS = "records.parquet"
# embed_crops
CROPS = "crops.parquet"
# embed_images, embed_crops, embed_text and embed_examples
EMBEDDINGS = "embeddings.npy"
# embed_text and embed_examples
TEXTS = "texts.parquet"
# build_index
INDEX_IMAGES = "images.parquet"
FAISS_FILE = "index.faiss"
# search_index
NEIGHBOURS = "neighbours.parquet"
# estimate_evidence
EVIDENCE = "evidence.parquet"
# retrieve
RETRIEVAL = "retrieval.parquet"
RETRIEVED_IMAGES = "images.parquet"
# find_duplicates and import_duplicates
DUPLICATES = "duplicates.parquet"
# find_leaks
LEAKS = "leaks.parquet"
# plan_masks
MASK_PLAN = "images.parquet"
# make_masks
MASKS = "masks.parquet"
# plan_shards
SAMPLES = "samples.parquet"
VOCABULARY = "vocabulary.json"
# pack_shards and relabel_shard
SHARD = "shard.tar"
# pack_shards, relabel_shard and assemble_dataset
SHARD_INDEX = "index.parquet"
# assemble_dataset
CARD = "README.md"
# relabel_shard
CHANGES = "changes.parquet"
# plan_regions
REGION_PLAN = "images.parquet"
# embed_regions
REGIONS = "regions.parquet"
REGION_VECTORS = "vectors.npy"
# damage_labels
EXAMPLES = "examples.parquet"
EXAMPLE_VECTORS = "vectors.npy"
# name_objects
NAMED_OBJECTS = "objects.parquet"
# score_labels
LABELS = "labels.parquet"
# import_decisions
DECIDED = "decided.parquet"
# choose_labels
CHOSEN_LABELS = "chosen.parquet"
