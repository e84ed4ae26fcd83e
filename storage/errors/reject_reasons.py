"""Reject reasons: why a file of a corpus is left out, each with a one-line explanation.

The words are recorded in image records and counted in summaries, so their meanings never change.
Reasons that a single stage adds (such as a blank mask) are not in this list.
"""

from __future__ import annotations

from typing import Final

# While listing a corpus.
UNREADABLE_FOLDER: Final = "unreadable_folder"
SYMLINK_LOOP: Final = "symlink_loop"
DUPLICATE_FOLDER: Final = "duplicate_folder"
NOT_A_FILE: Final = "not_a_file"
NO_URI: Final = "no_uri"
CREDENTIALS_IN_URI: Final = "credentials_in_uri"
UNSUPPORTED_ADDRESS: Final = "unsupported_address"
OUTSIDE_ROOTS: Final = "outside_roots"
COMPRESSED_TAR: Final = "compressed_tar"

# While reading bytes; `missing` and `unreadable` also while listing.
MISSING: Final = "missing"
UNREADABLE: Final = "unreadable"
CHANGED: Final = "changed"
EMPTY_FILE: Final = "empty_file"
FILE_TOO_LARGE: Final = "file_too_large"
NOT_A_TAR: Final = "not_a_tar"
TRUNCATED_TAR: Final = "truncated_tar"
UNSAFE_MEMBER_NAME: Final = "unsafe_member_name"
DUPLICATE_MEMBER: Final = "duplicate_member"
LABEL_MAP: Final = "label_map"
HIDDEN_MEMBER: Final = "hidden_member"
NOT_A_ZIP: Final = "not_a_zip"
ENCRYPTED_MEMBER: Final = "encrypted_member"
UNSUPPORTED_COMPRESSION: Final = "unsupported_compression"
DAMAGED_MEMBER: Final = "damaged_member"
DAMAGED_TABLE: Final = "damaged_table"
COMPRESSED_TABLE: Final = "compressed_table"
NO_BYTES: Final = "no_bytes"

# While reading from a web server: transient errors, which may have passed by the next run.
TIMED_OUT: Final = "timed_out"
TOO_MANY_REQUESTS: Final = "too_many_requests"
SERVER_ERROR: Final = "server_error"
CONNECTION_LOST: Final = "connection_lost"

TRANSIENT: Final = frozenset({TIMED_OUT, TOO_MANY_REQUESTS, SERVER_ERROR, CONNECTION_LOST})
"""Not properties of the image: files with these reasons are requested again by later runs."""

# While decoding.
NOT_AN_IMAGE: Final = "not_an_image"
TRUNCATED: Final = "truncated"
CORRUPT: Final = "corrupt"
TOO_SMALL: Final = "too_small"
TOO_LARGE: Final = "too_large"
TOO_MANY_PIXELS: Final = "too_many_pixels"
UNSUPPORTED_COLOURS: Final = "unsupported_colours"

# While decoding, where unusual images are to be rejected rather than converted.
CMYK: Final = "cmyk"
SIXTEEN_BIT: Final = "sixteen_bit"
PALETTE: Final = "palette"
ANIMATED: Final = "animated"
ALPHA: Final = "alpha"

REJECT_REASONS: Final[dict[str, str]] = {
    UNREADABLE_FOLDER: "the folder may not be listed; check its permissions",
    SYMLINK_LOOP: "a symbolic link leads back to itself or to a folder that it is in",
    DUPLICATE_FOLDER: "a symbolic link to a folder that is listed under another path already",
    NOT_A_FILE: "a folder, pipe, socket or device where a file was expected",
    NO_URI: "the row of the table, or the image of the JSON file, names no file",
    UNSUPPORTED_ADDRESS: "neither a path nor an address of s3, gs, az or http(s)",
    OUTSIDE_ROOTS: "outside the folders and addresses that `zutis serve --root` allows",
    CREDENTIALS_IN_URI: "the address carries a password; give it in the environment instead",
    COMPRESSED_TAR: "a compressed tar's members can't be read by range; decompress it first",
    MISSING: "the file does not exist",
    UNREADABLE: "the file exists and can't be read; check its permissions and the disk",
    CHANGED: "the file is no longer the one that was listed",
    EMPTY_FILE: "the file holds no bytes",
    FILE_TOO_LARGE: "the file is larger than the limit on bytes",
    NOT_A_TAR: "the file ends in .tar and is no (uncompressed) tar",
    TRUNCATED_TAR: "the tar is cut, damaged or followed by other data; images before that are kept",
    UNSAFE_MEMBER_NAME: "the tar or zip member's name is absolute or leads out of it by `..`",
    DUPLICATE_MEMBER: "the tar or zip holds a member of this name already; the first one is kept",
    LABEL_MAP: "the member is the label map of a photograph in the same tar or zip",
    HIDDEN_MEMBER: "the tar or zip member, or a folder of its name, is hidden",
    NOT_A_ZIP: "the file ends in .zip and is no whole zip",
    ENCRYPTED_MEMBER: "the zip member is encrypted; unpack it with its password first",
    UNSUPPORTED_COMPRESSION: "the zip member is neither stored nor deflated; pack it again",
    DAMAGED_MEMBER: "the zip member's bytes don't agree with its length, place or checksum",
    DAMAGED_TABLE: "the Parquet or Arrow file is cut or damaged; rows before that are kept",
    COMPRESSED_TABLE: "the Arrow file is compressed; write it uncompressed, or as Parquet",
    NO_BYTES: "the row of the Parquet or Arrow file holds no bytes of an image",
    TIMED_OUT: "the web server did not send the file in time; the next run asks again",
    TOO_MANY_REQUESTS: "the web server wants fewer requests (429); the next run asks again",
    SERVER_ERROR: "the web server answered with an error of its own (5xx); the next run asks again",
    CONNECTION_LOST: "no connection, or one that broke; the next run asks again",
    NOT_AN_IMAGE: "the bytes are of no known image format, such as HTML saved as .jpg",
    TRUNCATED: "the image's bytes end early",
    CORRUPT: "the image's bytes are damaged",
    TOO_SMALL: "a side is shorter than the limit",
    TOO_LARGE: "a side is longer than the limit",
    TOO_MANY_PIXELS: "height x width is above the limit (also decompression bombs)",
    UNSUPPORTED_COLOURS: "the image's colour space can't be converted to RGB",
    CMYK: "colours for print (CMYK)",
    SIXTEEN_BIT: "more than 8 bits per channel",
    PALETTE: "colours from a palette",
    ANIMATED: "more than one frame",
    ALPHA: "transparency",
}

# Oddities of images that are used all the same; counted, never a reason to leave an image out.
DAMAGED_METADATA: Final = "damaged_metadata"
ODD_FILE: Final = "odd_file"

IMAGE_WARNINGS: Final[dict[str, str]] = {
    DAMAGED_METADATA: "EXIF data or TIFF tags are damaged; the pixels are good",
    ODD_FILE: "the file doesn't keep to its format; its pixels can be read all the same",
}
