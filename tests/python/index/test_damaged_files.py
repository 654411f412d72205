"""Damaged index files and files of other programs give an error."""

import errno

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import relkt

from .cases import GOOD, IDS, normal, sections


@pytest.fixture(params=[("none", np.float32), ("strings", np.float16), ("integers", np.float32)], ids=lambda p: p[0])
def saved(request, tmp_path):
    """A file of some forty KiB."""
    ids, dtype = request.param
    path = tmp_path / "index.relkt"
    relkt.Index(normal(0, 333, 30, dtype), ids=IDS[ids](333)).save(path, texts="texts.jsonl")
    return path


def test_a_truncated_file(saved):
    content = saved.read_bytes()
    for length in {*range(0, len(content), 4096), 7, 8, 9, 100, len(content) - 1}:
        saved.write_bytes(content[:length])
        with pytest.raises(relkt.IndexFileError, match=r"cut short|too few for any index") as refused:
            relkt.Index.open(saved)
        assert str(refused.value).startswith(f"{saved}: ")
    saved.write_bytes(content + b"\0")
    with pytest.raises(relkt.IndexFileError, match="its header and its size do not fit together"):
        relkt.Index.open(saved)
    saved.write_bytes(content)
    relkt.Index.open(saved, verify=True)


def test_a_flipped_bit_in_a_section(saved):
    content, (found, _) = saved.read_bytes(), sections(saved)
    assert {"codes", "scales", "errors", "norms", "rows"} <= set(found)
    assert max(end for _, end in found.values()) == len(content)
    for name, (start, end) in found.items():
        assert end > start
        for at in {start, (start + end) // 2, end - 1}:
            for bit in (0, 7):
                damaged = bytearray(content)
                damaged[at] ^= 1 << bit
                saved.write_bytes(damaged)
                told = f'the section "{name}" was altered: its checksum differs'
                if name.startswith("id_") or name in ("scales", "errors", "mean"):
                    # Damage may give invalid UTF-8, ends out of order, numbers in padding rows, or NaN.
                    told += "|its sections do not fit its shape"
                with pytest.raises(relkt.IndexFileError, match=told):
                    relkt.Index.open(saved, verify=True)
                if name == "rows":
                    relkt.Index.open(saved)  # Checked only with verify=True, because it reads everything.
    saved.write_bytes(content)
    relkt.Index.open(saved, verify=True)


def test_a_flipped_bit_in_the_header(saved):
    content = saved.read_bytes()
    end = 8 + len(content[8 : 8 + int.from_bytes(content[:8], "little")].rstrip())
    for at in range(0, end, 3):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        saved.write_bytes(damaged)
        with pytest.raises(relkt.IndexFileError):
            relkt.Index.open(saved)


def test_a_newer_version(saved):
    content, (_, metadata) = saved.read_bytes(), sections(saved)
    old, new = f'"version":"{metadata["version"]}"'.encode(), b'"version":"9"'
    assert content.count(old) == 1
    assert len(old) == len(new)
    saved.write_bytes(content.replace(old, new))
    newest = metadata["version"]
    with pytest.raises(
        relkt.IndexFileError, match=f"its format has version 9, newer than {newest}, the newest known here"
    ):
        relkt.Index.open(saved)


def test_files_of_other_programs(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"")
    with pytest.raises(relkt.IndexFileError, match="it has 0 bytes, too few for any index"):
        relkt.Index.open(path)
    for content in (b"a text of more than eight bytes", bytes(4096), np.random.default_rng(0).bytes(100_000)):
        path.write_bytes(content)
        for verify in (False, True):
            with pytest.raises(relkt.IndexFileError, match=r"not an index file|not an index written by relkt"):
                relkt.Index.open(path, verify=verify)
    for metadata in (None, {"format": "pt"}, {"format": "np", "version": "1"}):
        safetensors.numpy.save_file({"rows": GOOD, "codes": GOOD}, path, metadata=metadata)
        with pytest.raises(relkt.IndexFileError, match="it is a safetensors file, but not an index written by relkt"):
            relkt.Index.open(path)
    with pytest.raises(relkt.IndexFileError, match="it is not a file"):
        relkt.Index.open(tmp_path)
    with pytest.raises(FileNotFoundError) as missing:
        relkt.Index.open(tmp_path / "missing")
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, str(tmp_path / "missing"))
    assert issubclass(relkt.IndexFileError, ValueError)
    for nothing in (None, 3):
        with pytest.raises(TypeError):
            relkt.Index.open(nothing)


def test_an_index_file_with_parts_of_another(tmp_path):
    # Rewritten by a safetensors library: complete, but the header no longer matches its checksum.
    path = tmp_path / "index.relkt"
    relkt.Index(GOOD).save(path)
    tensors = safetensors.numpy.load_file(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    tensors["rows"] = tensors["rows"][:-1]
    safetensors.numpy.save_file(tensors, path, metadata=metadata)
    with pytest.raises(relkt.IndexFileError, match="its header was altered"):
        relkt.Index.open(path)
