"""Whether an object is whole. DuckDB decompresses a shortened object without an error, and answers with the lines that are left."""

_MAGIC = 0xFD2FB528
_RAW, _RLE, _COMPRESSED = 0, 1, 2
_DICTIONARY_ID_BYTES = (0, 1, 2, 4)
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)
_CHECKSUM_BYTES = 4


def is_whole(data: bytes) -> bool:
    """Walks from block to block (RFC 8878, section 3.1.1) and decompresses nothing."""
    at = 0
    while at < len(data):
        end = _frame_end(data, at)
        if end is None or end > len(data):
            return False
        at = end
    return at > 0


def _frame_end(data: bytes, at: int) -> int | None:
    if int.from_bytes(data[at : at + 4], "little") != _MAGIC or at + 5 > len(data):
        return None
    descriptor = data[at + 4]
    single_segment = descriptor >> 5 & 1
    content_size = _CONTENT_SIZE_BYTES[descriptor >> 6] or single_segment
    window = 1 - single_segment
    at += 5 + window + _DICTIONARY_ID_BYTES[descriptor & 3] + content_size
    last = 0
    while not last:
        if at + 3 > len(data):
            return None
        header = int.from_bytes(data[at : at + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind not in (_RAW, _RLE, _COMPRESSED):
            return None
        at += 3 + (1 if kind == _RLE else size)
    return at + (_CHECKSUM_BYTES if descriptor >> 2 & 1 else 0)
