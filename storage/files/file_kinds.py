"""Kinds of files by name: image, tar, table, list or other."""

from __future__ import annotations

from urllib.parse import urlsplit

# fmt: off
IMAGE_EXTENSIONS = frozenset({
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "pnm",
    "avif", "jp2",
})
# Images that people have, and that Pillow does not read without help.
UNREADABLE_IMAGE_EXTENSIONS = frozenset({
    "heic", "heif", "jxl", "svg", "psd", "dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "raf",
})
# fmt: on
TABLE_EXTENSIONS = frozenset({"parquet", "csv", "tsv"})
LIST_EXTENSIONS = frozenset({"txt", "jsonl"})

_COMPRESSIONS = frozenset({"gz", "bz2", "xz", "zst", "lz4", "lzma", "z", "br"})
_COMPRESSED_TAR_EXTENSIONS = frozenset({"tgz", "tbz", "tbz2", "txz", "tzst", "tlz"})
# What macOS and network disks put beside people's files: copies, previews, deleted files.
_HIDDEN_NAMES = frozenset({"@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX"})
_WEB_PROTOCOLS = ("http://", "https://")


def is_web(uri: str) -> bool:
    """Whether a web server answers for `uri`: it can be read, but folders can't be listed."""
    return uri.lower().startswith(_WEB_PROTOCOLS)


def file_name(uri: str) -> str:
    """The last part of a path or URI; a web address loses its query first."""
    if is_web(uri):
        try:
            uri = urlsplit(uri).path
        except ValueError:  # such as an unclosed bracket in the host's name
            return ""
    return uri.rstrip("/").rpartition("/")[2]


def extension_of(name: str) -> str:
    """The extension in lower case without its dot, `tar.gz` for compressed tars, or ''."""
    stem, dot, extension = file_name(name).lower().rpartition(".")
    if not dot:
        return ""
    if extension in _COMPRESSIONS and stem.endswith(".tar"):
        return f"tar.{extension}"
    return extension


def is_image(name: str) -> bool:
    """Whether the name ends in one of `IMAGE_EXTENSIONS`, in any case."""
    return extension_of(name) in IMAGE_EXTENSIONS


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name (no path) was put there by a program for itself."""
    return name.startswith(".") or name in _HIDDEN_NAMES


def is_tar(name: str) -> bool:
    """Whether the name is that of an uncompressed tar, whose members can be read by range."""
    return extension_of(name) == "tar"


def is_compressed_tar(name: str) -> bool:
    """Whether the name is that of a tar whose members can't be read by byte range."""
    extension = extension_of(name)
    return extension.startswith("tar.") or extension in _COMPRESSED_TAR_EXTENSIONS


def is_table(name: str) -> bool:
    """Whether the name is that of a table or list which may have images' paths."""
    return extension_of(name) in TABLE_EXTENSIONS or is_list(name)


def is_list(name: str) -> bool:
    """Whether the name is that of a list, which is read line by line."""
    return extension_of(name) in LIST_EXTENSIONS
